"""Scripts of letters: where a text leaves the ones that were to be expected, and what comes of bytes read in the wrong code."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterator
from functools import lru_cache

# written together, in one language
_GROUPS = {"CJK": "CJK", "HIRAGANA": "CJK", "KATAKANA": "CJK", "HANGUL": "CJK", "BOPOMOFO": "CJK", "IDEOGRAPHIC": "CJK"}
_ALWAYS = frozenset({"LATIN", "OTHER"})
_OTHER = frozenset(
    {"MATHEMATICAL", "MICRO", "DOUBLE-STRUCK", "SUPERSCRIPT", "SUBSCRIPT", "MODIFIER", "ANGSTROM", "OHM"}
)
# letters that are foreign before it is a drift, and their share of all letters
_MIN_LETTERS, _MIN_SHARE = 12, 0.15
_SWITCHES = 4
_BEGINNING = 3  # without a prompt, the scripts of the first third are the expected ones
_NON_ASCII = re.compile(r"[^\x00-\x7f]{2,}")


@lru_cache(maxsize=65536)
def script(letter: str) -> str:
    """The script of a letter, "CJK" for all that East Asian languages mix; "OTHER" for signs in letters' clothes."""
    first = unicodedata.name(letter, "OTHER").split(" ", 1)[0].removesuffix("-FULLWIDTH")
    if first in ("FULLWIDTH", "HALFWIDTH"):
        return "LATIN" if "LATIN" in unicodedata.name(letter, "") else "CJK"
    return "OTHER" if first in _OTHER else _GROUPS.get(first, first)


def scripts(text: str) -> Counter[str]:
    """How many letters of each script."""
    return Counter(script(char) for char in text if char.isalpha())


def drift(text: str, prompt: str) -> Iterator[tuple[int, str]]:
    """(offset, word) where a text goes over to a script that its prompt has not, or jumps to and fro within words."""
    letters = [(i, script(char)) for i, char in enumerate(text) if char.isalpha()]
    begun = [name for _, name in letters[: max(_MIN_LETTERS, len(letters) // _BEGINNING)]]
    expected = set(scripts(prompt)) if prompt.strip() else set(begun)
    foreign = [i for i, name in letters if name not in expected | _ALWAYS]
    if len(foreign) >= _MIN_LETTERS and len(foreign) >= _MIN_SHARE * len(letters):
        yield foreign[0], text[foreign[0] : foreign[0] + 12]
    switches = [i for i, (a, b) in enumerate(itertools.pairwise(text)) if _is_switch(a, b, expected)]
    if len(switches) >= _SWITCHES:
        yield switches[0], text[max(0, switches[0] - 6) : switches[0] + 6]


def misread(text: str) -> Iterator[tuple[int, str, int]]:
    """(offset, characters, how many they were) of UTF-8 that was read as an eight-bit code: its bytes there are valid UTF-8."""
    for match in _NON_ASCII.finditer(text):
        raw = b"".join(_byte(char) for char in match.group())
        try:
            decoded = raw.decode("utf-8")
        except UnicodeDecodeError:
            continue
        if decoded and len(decoded) < len(match.group()):
            yield match.start(), match.group(), len(decoded)


def _byte(char: str) -> bytes:
    """The byte that Windows-1252, or Latin-1 where that has none, shows as this character; 0xff, never in UTF-8, if none."""
    for code in ("cp1252", "latin-1"):
        try:
            return char.encode(code)
        except UnicodeEncodeError:
            continue
    return b"\xff"


def _is_switch(a: str, b: str, expected: Container[str]) -> bool:
    """Whether two letters side by side are of scripts that are not mixed in a word. Latin stands beside expected CJK as it likes."""
    if not (a.isalpha() and b.isalpha()) or (a.isascii() and b.isascii()):
        return False
    pair = {script(a), script(b)}
    if len(pair) == 1 or "OTHER" in pair or pair == {"LATIN", "GREEK"}:  # Δx
        return False
    return pair != {"LATIN", "CJK"} or "CJK" not in expected
