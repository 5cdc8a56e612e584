"""Results as JSON: dataclasses as objects, paths as text, no NaN, keys in the order of their fields.

Control and formatting characters inside strings are written as \\u escapes: the same data for a parser, and nothing that
could steer a terminal it is printed on. What is no text at all (half a surrogate pair) survives the same way.
"""

from __future__ import annotations

import json as _json
import re
from pathlib import Path
from typing import Any

from apr import _atomic
from apr._plain import plain

# What JSON itself leaves as it is: C1 controls, DEL, soft hyphen, bidi and invisible formatting characters, line and
# paragraph separators, surrogates, interlinear and tag characters (Unicode 15, categories Cc, Cf, Cs, Zl, Zp)
_STEERING = re.compile(
    "[\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0001-\U000e007f]"
)


def dumps(result: Any) -> str:
    """One line of JSON."""
    return _escaped(_json.dumps(plain(result), ensure_ascii=False, allow_nan=False))


def save(result: Any, path: Path) -> None:
    """Write a result to a file, indented, whole or not at all."""
    text = _escaped(_json.dumps(plain(result), ensure_ascii=False, allow_nan=False, indent=2)) + "\n"
    _atomic.write_bytes(path, text.encode("utf-8"))


def _escaped(text: str) -> str:
    return _STEERING.sub(lambda found: _json.dumps(found.group())[1:-1], text)
