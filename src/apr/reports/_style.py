"""Colour, where a person wants it: on a terminal, unless NO_COLOR or TERM=dumb says no; FORCE_COLOR says yes to a pipe too."""

from __future__ import annotations

import os
import sys
from typing import Literal, TextIO

Style = Literal["bold", "dim", "red", "green", "yellow"]

# Select Graphic Rendition: ECMA-48, section 8.3.117
_CODES: dict[Style, str] = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


def is_coloured(stream: TextIO) -> bool:
    """Whether a stream takes colours. NO_COLOR (not empty) is the strongest word: https://no-color.org."""
    if os.environ.get("NO_COLOR"):
        return False
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        if os.environ.get(name, "0") not in ("", "0"):
            return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def paint(text: str, style: Style, *, stream: TextIO | None = None) -> str:
    """Text in a style, for standard output unless another stream is named; as it is where there is no colour."""
    if not text or not is_coloured(stream or sys.stdout):
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"
