"""Texts of every kind that a tokenizer meets, made anew from a seed: what comes back from its ids must be what went in."""

from __future__ import annotations

import random
import string
import unicodedata
from collections.abc import Iterator, Sequence

from apr.parity._batteries import TEXTS

_SPACES = " \t\n\r\v\f\x85\u00a0\u2003\u2028\u3000"
_WORDS = (
    *("the", "of", "and", "to", "in", "is", "for", "on", "that", "by", "this", "with", "not", "are"),
    *("def", "return", "class", "import", "self", "None", "True", "while", "print"),
)
_SIGNS = "(){}[]<>=+-*/%&|^~!?:;,.@#$_\"'`\\"
# first and last code point of the scripts and signs that text is made of, by Unicode's blocks
_BLOCKS = (
    (0x20, 0x7E), (0xA1, 0x17F), (0x180, 0x24F), (0x250, 0x2AF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF),
    (0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FF), (0xB80, 0xBFF), (0xE00, 0xE7F),
    (0x10A0, 0x10FF), (0x1200, 0x137F), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20CF),
    (0x2100, 0x214F), (0x2190, 0x21FF), (0x2200, 0x22FF), (0x2500, 0x257F), (0x2600, 0x26FF), (0x3040, 0x30FF),
    (0x3100, 0x312F), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xFF00, 0xFFEF), (0x10330, 0x1034F),
    (0x1D400, 0x1D7FF), (0x1F300, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF), (0x20000, 0x2007F), (0xF0000, 0xF000F),
)  # fmt: skip
_CODE = (
    'def {0}({1}, *, {2}=None):\n    """{1}."""\n    return {{{1!r}: {2}[{3}:-1]}}\n',
    "for ({0} = {3}; {0} < {1}; ++{0}) {{\n\tif (!{2}) {{ {1} += 0x{3:x}; }}\n}}\n",
    'SELECT {0}, COUNT(*) FROM "{1}" WHERE {2} >= {3} GROUP BY 1; -- {0}\r\n',
    '{{"{0}": [{3}, null, true, "{1}\\n{2}"], "": {{}}}}',
    "<{0} class='{1}'>\n  <!-- {2} -->&nbsp;{3}\n</{0}>\n",
    "| {0} | {1} |\n|---|---:|\n| `{2}` | {3} |\n\n$$\\sum_{{i=1}}^{{{3}}} {0}_i$$\n",
    "#!/bin/sh\n{0}=${{{1}:-{3}}} && echo \"$({2} | awk '{{print $1}}')\" > /dev/null 2>&1\n",
)


def texts(tokens: Sequence[str], *, seed: int) -> Iterator[str]:
    """At least 1,000 texts, none twice: written ones, every byte, every block of Unicode, spaces, digits, code, mixtures.

    tokens:  pieces of the vocabulary as text, which are put together as the vocabulary's own texts are not
    """
    seen: set[str] = set()
    for text in _texts(tokens, random.Random(seed)):
        if text not in seen:
            seen.add(text)
            yield text


def _texts(tokens: Sequence[str], draw: random.Random) -> Iterator[str]:
    yield from TEXTS
    yield from (chr(code) for code in range(256))
    yield "".join(map(chr, range(256)))
    # every first byte and every later byte of UTF-8; surrogates are no text
    yield from ("".join(map(chr, range(first, first + 0x40))) for first in range(0x80, 0x800, 0x40))
    yield from (chr(first) + chr(first + 0x7FF) for first in range(0x800, 0xD000, 0x800))
    yield "\ud7ff\ue000\uffee"
    yield from (chr(first) + chr(first + 0x3FF0) for first in range(0x10000, 0x110000, 0x10000))
    for first, last in _BLOCKS:
        block = [chr(code) for code in range(first, last + 1)]
        yield "".join(block[:128])
        yield from ("".join(draw.choices(block, k=draw.randint(1, 24))) for _ in range(4))
    yield from ("".join(draw.choices(_SPACES, k=n)) for n in range(1, 40))
    yield from (f"a{_spaces(draw)}b{_spaces(draw)}" for _ in range(80))
    yield from (c * n for c in " \n\t-=.a0\u4e00\U0001f642" for n in (2, 3, 7, 16, 63, 64, 65, 129))
    yield from ("".join(draw.choices(string.digits + ",. ", k=draw.randint(1, 30))) for _ in range(60))
    for _ in range(20):
        names = [draw.choice(_WORDS) + draw.choice(("", "_", "2", "Name")) for _ in range(3)]
        yield from (form.format(*names, draw.randint(0, 99999)) for form in _CODE)
    yield from (_mixture(draw) for _ in range(120))
    yield from (unicodedata.normalize("NFD", "\u00e9\u00f1\u1ea5\uac00" * n) for n in (1, 2, 5))
    for _ in range(160):
        yield "".join(draw.choices(tokens, k=draw.randint(1, 6)))


def _spaces(draw: random.Random) -> str:
    return "".join(draw.choices(_SPACES, k=draw.randint(1, 5)))


def _mixture(draw: random.Random) -> str:
    parts = []
    for _ in range(draw.randint(3, 12)):
        first, last = draw.choice(_BLOCKS)
        parts.append(
            draw.choice((draw.choice(_WORDS), draw.choice(_SIGNS), _spaces(draw), chr(draw.randint(first, last))))
        )
    return "".join(parts)
