"""Is a text degenerate: stuck in a loop, gone over to another script, or garbled? Pure functions over text and token ids.

A loop is a fragment that follows on itself; how many copies are too many depends on what the fragment is. White space, rules,
table rows, numbers, literals of code and the fill of base64 repeat in healthy text, words do not. What repeats to the very end, over
many tokens, is a dead loop whatever it is made of. `benchmarks/degeneration.py` measures how often this cries wolf and
how often it sleeps.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from apr.qa import _scripts

T = TypeVar("T")
Kind = Literal["loop", "varied-loop", "token-loop", "collapse", "echo", "garbled", "script-drift"]

# of the text that is looked at: a loop that begins later is in a text that has been healthy for pages
_MAX_CHARS = 8000
_MAX_PERIOD = 1200
_LEAST_COPIES = 3
# what lines are drawn with; "!" and "?" are none: a row of "!" is what token 0 of many vocabularies decodes to
_RULE = frozenset("-=_*~#+.·•|/\\<>^:%─━│┃┄┅┆┇┈┉┊┋═║╔╗╚╝╠╣╦╩╬┌┐└┘├┤┬┴┼█▀▄▌▐░▒▓ \t\r\n")
_RULE_LINE = 240  # characters of a line; a longer rule is a loop
_LITERAL = re.compile(r"\\?0?x[0-9a-f]{1,8}|\\u[0-9a-f]{4}|\b(?:none|null|true|false|nan|inf|na)\b", re.IGNORECASE)
_PROSE = re.compile(r"[^\W_]|[\s.,;:!?'\"’“”()\-*#>]")
_WORD = re.compile(r"[^\W\d_]{2,}")
_WORDS = re.compile(r"[^\W\d_]+")
_TAG = re.compile(r"</\w")
_DIGITS = re.compile(r"\d+")
_BASE64 = re.compile(r"[A-Za-z0-9+/=_-]{40,}")
_BYTE_CHARS = re.compile("[ĠĊĉ]")  # how byte-level vocabularies spell space, newline and tab
# a window of words, and how few different ones are in it at the least
_WINDOW, _DISTINCT = 48, 7
_LETTERS_OF_PROSE = 0.8  # of all but the spaces
_TOKEN_COPIES, _TOKEN_SPAN = 12, 32
_ECHO_CHARS, _ECHO_COPIES = 12, 3


@dataclass(frozen=True, slots=True)
class Degeneration:
    """What is wrong with a text.

    start:     offset in characters where it begins
    token:     index of the generated token where it begins; None where no tokens were given
    fragment:  what repeats, or the first of what is strange
    copies:    how often; 1 for what does not repeat
    """

    kind: Kind
    start: int
    token: int | None
    fragment: str
    copies: int

    def __str__(self) -> str:
        shown = self.fragment if len(self.fragment) <= 40 else self.fragment[:40] + "…"
        at = f"character {self.start}" if self.token is None else f"character {self.start} (token {self.token})"
        what = {
            "loop": f"{shown!r} {self.copies} times over",
            "varied-loop": f"{shown!r} {self.copies} times over, with other numbers",
            "token-loop": f"the same tokens {self.copies} times over to the end ({shown!r})",
            "collapse": f"{_WINDOW} words of which at most {_DISTINCT} differ ({shown!r})",
            "echo": f"the prompt {self.copies} times over",
            "garbled": f"characters that no text has ({shown!r})",
            "script-drift": f"goes over to another script ({shown!r})",
        }[self.kind]
        return f"{what}, from {at}"


def find(
    text: str, *, prompt: str = "", token_ids: Sequence[int] = (), token_texts: Sequence[str] = ()
) -> Degeneration | None:
    """The first degeneration of a generated text, by offset; None if it is healthy.

    prompt:       what it answers or continues, whose scripts are expected; "" takes the beginning of the text for it
    token_ids:    generated, the stop token not among them
    token_texts:  what each of them added to the text
    """
    shown = text[:_MAX_CHARS]
    starts = list(itertools.accumulate((len(piece) for piece in token_texts), initial=0))

    def placed(kind: Kind, start: int, fragment: str, copies: int = 1) -> Degeneration:
        token = max(0, bisect.bisect_right(starts, start) - 1) if token_texts else None
        return Degeneration(kind, start, token, fragment, copies)

    found = [placed("loop", *loop) for loop in loops(shown)]
    found += [placed("varied-loop", *loop) for loop in varied_loops(shown)]
    found += [placed("collapse", at, words) for at, words in _first(collapse(shown))]
    found += [placed("echo", *echo) for echo in _first(echoes(shown, prompt))]
    found += [placed("garbled", at, sign) for at, sign in _first(garbled(shown))]
    found += [placed("script-drift", at, word) for at, word in _first(_scripts.drift(shown, prompt))]
    if (loop := token_loop(token_ids)) is not None:
        index, period, copies = loop
        at = starts[index] if index < len(starts) else len(text)
        end = starts[index + period] if index + period < len(starts) else len(text)
        found.append(Degeneration("token-loop", at, index, text[at:end], copies))
    return min(found, key=lambda one: one.start, default=None)


def loops(text: str) -> Iterator[tuple[int, str, int]]:
    """(offset, fragment, copies) of fragments that follow on themselves too often."""
    for start, period, length in periodic(_codes(text)):
        fragment, copies = text[start : start + period], length // period
        if copies >= _too_many(text, start, period, length):
            yield start, fragment, copies


def varied_loops(text: str) -> Iterator[tuple[int, str, int]]:
    """As `loops`, where the copies differ in their numbers: sentences only, since lists and tables are made so."""
    if not _DIGITS.search(text):
        return
    origin: list[int] = []
    plain = ""
    end = 0
    for match in _DIGITS.finditer(text):
        origin += [*range(end, match.start()), match.start()]
        plain += text[end : match.start()] + "0"
        end = match.end()
    plain += text[end:]
    origin += range(end, len(text))
    for start, period, length in periodic(_codes(plain)):
        fragment, copies = plain[start : start + period], length // period
        words = _WORD.findall(fragment)
        is_prose = len(words) >= 3 and not _PROSE.sub("", fragment) and "\t" not in fragment
        reaches_end = start + length >= len(plain) - period
        n_letters = sum(map(len, words))
        least = 4 if is_prose and n_letters >= 12 else 10 if n_letters >= 12 and reaches_end else 0
        if least and copies >= least and "0" in fragment:
            first = origin[start]
            if not _is_row(fragment) or copies >= 24:
                yield first, text[first : origin[min(start + period, len(origin) - 1)]], copies


def periodic(codes: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(start, period, length) of maximal stretches in which each element equals the one a period before, three copies at least.

    codes:  integers [n]. A stretch is given under its smallest period only.
    """
    n = len(codes)
    covered = np.zeros(
        n + 1, dtype=np.int64
    )  # under a smaller period: one past the end of the stretch that begins here
    for period in range(1, min(n // _LEAST_COPIES, _MAX_PERIOD) + 1):
        same = codes[period:] == codes[:-period]
        if np.count_nonzero(same) < (_LEAST_COPIES - 1) * period:
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]])))
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            length = end - start + period
            if length >= _LEAST_COPIES * period and covered[start] < start + length:
                covered[start : start + length] = np.maximum(covered[start : start + length], start + length)
                yield start, period, length


def token_loop(token_ids: Sequence[int]) -> tuple[int, int, int] | None:
    """(index, period, copies) of a loop of tokens that goes on to the end; None if there is none."""
    codes = np.asarray(token_ids, dtype=np.int64)
    for start, period, length in periodic(codes):
        if start + length == len(codes) and length >= _TOKEN_SPAN and length // period >= _TOKEN_COPIES:
            return start, period, length // period
    return None


def collapse(text: str) -> Iterator[tuple[int, str]]:
    """(offset, words) where many words in a row are the same few, in no order."""
    found = list(_WORDS.finditer(_LITERAL.sub(lambda match: " " * len(match.group()), text)))
    for i in range(0, len(found) - _WINDOW + 1, _WINDOW // 4):
        window = found[i : i + _WINDOW]
        words = {match.group().lower() for match in window}
        span = text[window[0].start() : window[-1].end()]
        n_letters = sum(len(match.group()) for match in window)
        # data and code are no prose: many of their characters are not letters
        if len(words) <= _DISTINCT and n_letters > _LETTERS_OF_PROSE * len("".join(span.split())):
            yield window[0].start(), " ".join(sorted(words)[:6])


def echoes(text: str, prompt: str) -> Iterator[tuple[int, str, int]]:
    """(offset, prompt, copies) of a prompt that is said again and again."""
    asked = prompt.strip()
    if len(asked) >= _ECHO_CHARS and text.count(asked) >= _ECHO_COPIES:
        yield text.index(asked), asked, text.count(asked)


def garbled(text: str) -> Iterator[tuple[int, str]]:
    """(offset, characters) of what comes of bytes that were read wrongly: two at least, since one may be a cut character."""
    marks = [i for i, char in enumerate(text) if char == "\ufffd" or (char < " " and char not in "\t\n\r\f\v")]
    if len(marks) >= 2:
        yield marks[0], text[marks[0] : marks[0] + 8]
    misread = list(_scripts.misread(text))
    if sum(n for *_, n in misread) >= 2:
        yield misread[0][:2]
    spelled = list(_BYTE_CHARS.finditer(text))
    if len(spelled) >= 3:
        yield spelled[0].start(), text[spelled[0].start() : spelled[0].start() + 12]


def _too_many(text: str, start: int, period: int, length: int) -> float:
    """From how many copies on a fragment is a loop; infinite where it may repeat as it likes."""
    fragment, region = text[start : start + period], text[start : start + length]
    reaches_end = start + length == len(text)
    never = float("inf")
    if not fragment.strip():
        return never
    if set(fragment) <= _RULE:
        return never if max(map(len, region.splitlines())) <= _RULE_LINE else _LEAST_COPIES
    if not _WORDS.search(_LITERAL.sub("", fragment)):
        if any(char.isalnum() for char in fragment):
            # a table of zeros; only what goes on to the end of the text is a dead loop
            return max(32, 64 // period) if reaches_end else never
        return max(4, 16 // period)
    if _is_fill(text, start, length, period):
        return never
    if _is_row(fragment) or _TAG.search(fragment):
        return 16
    return _of_words(fragment, period)


def _of_words(fragment: str, period: int) -> int:
    if period == 1:
        return 16
    if period <= 3:
        return 6 if "\n" in fragment else 8
    if period < 12:
        return 6
    return 4 if period < 40 else 3


def _is_row(fragment: str) -> bool:
    """Whether it is a line of a table or of data: two separators at least, outside sentences."""
    return "\n" in fragment and (fragment.count("|") >= 2 or fragment.count("\t") >= 2 or fragment.count(",") >= 4)


def _is_fill(text: str, start: int, length: int, period: int) -> bool:
    """Whether it is the fill within base64 or hexadecimal: a smaller part of a long word of such characters."""
    if period > 4:
        return False
    around = next((m for m in _BASE64.finditer(text) if m.start() <= start and start + length <= m.end()), None)
    return around is not None and length < 0.7 * len(around.group())


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _first(found: Iterator[T]) -> list[T]:
    return list(itertools.islice(found, 1))
