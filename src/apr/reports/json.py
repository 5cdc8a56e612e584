"""Results as JSON: dataclasses as objects, paths as text, no NaN, keys in the order of their fields.

Control and formatting characters inside strings are written as \\u escapes: the same data for a parser, and nothing that
could steer a terminal it is printed on. What is no text at all (half a surrogate pair) survives the same way.
"""

from __future__ import annotations

import dataclasses
import json as _json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apr import _atomic

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


def plain(value: Any) -> Any:
    """Dataclasses, tuples, sets, paths and numpy values as what JSON knows; a float that is not finite becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"schema": fields["schema"], **fields} if "schema" in fields else fields
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, float):
        # a numpy float64 is a float of Python too; JSON gets a real one
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return plain(value.tolist())
    return value


def _escaped(text: str) -> str:
    return _STEERING.sub(lambda found: _json.dumps(found.group())[1:-1], text)
