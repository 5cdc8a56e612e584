"""JSON text as Rust's serde_json writes it, byte for byte: compact, UTF-8, and its own way with floats.

Strings agree with Python's `json`. Floats do not: the digits are the same (the shortest that read back), but serde_json
writes `1e-6` where Python has `1e-06`, and `0.000001` for a 32-bit field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apr.errors import BadMetadata, BadString
from apr.formats._apr_metadata import F32_KEYS

# where the decimal point may stand, counted from the first digit, before an exponent is written: ryu's
# pretty/mod.rs, `format64` and `format32`
_F64_POINT = range(-4, 17)
_F32_POINT = range(-5, 14)
_MAX_DEPTH = 60  # the reader stops at 64


def dump(path: Path, metadata: Mapping[str, Any]) -> bytes:
    """The bytes of a metadata object, keys in the order given.

    path     the file to be written, for messages
    Raises   BadMetadata (a NaN, an infinity, a type that JSON does not have), BadString (half a surrogate pair).
    """
    parts = [f"{_key(path, key)}:{_text(path, value, key=key, depth=1)}" for key, value in metadata.items()]
    text = "{" + ",".join(parts) + "}"
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as exc:
        message = f"not written: the metadata holds {text[exc.start]!r}, half a surrogate pair, which UTF-8 cannot hold"
        raise BadString(path, message) from exc


def float_text(value: float, *, point: range = _F64_POINT) -> str:
    """A finite float as serde_json writes it; `point` says up to where without an exponent."""
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if value == 0:
        return f"{sign}0.0"
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    at = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if at not in point:
        rest = f".{digits[1:]}" if digits[1:] else ""
        return f"{sign}{digits[0]}{rest}e{at - 1:+d}"
    if at <= 0:
        return f"{sign}0.{'0' * -at}{digits}"
    return f"{sign}{digits[:at].ljust(at, '0')}.{digits[at:] or '0'}"


def _text(path: Path, value: Any, *, key: str, depth: int) -> str:
    if value is None or isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        return _integer(path, value, key=key)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadMetadata(path, f"not written: metadata key {key!r} holds {value}; JSON has no such number")
        return float_text(value, point=_F32_POINT if depth == 1 and key in F32_KEYS else _F64_POINT)
    if depth > _MAX_DEPTH:
        raise BadMetadata(path, f"not written: metadata key {key!r} nests deeper than {_MAX_DEPTH} levels")
    if isinstance(value, list | tuple):
        if all(type(item) is str for item in value):  # a vocabulary: one call for a hundred thousand strings
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return "[" + ",".join(_text(path, item, key=key, depth=depth + 1) for item in value) + "]"
    if isinstance(value, Mapping):
        pairs = (f"{_key(path, k)}:{_text(path, v, key=key, depth=depth + 1)}" for k, v in value.items())
        return "{" + ",".join(pairs) + "}"
    message = f"not written: metadata key {key!r} holds a {type(value).__name__}, which JSON does not have"
    raise BadMetadata(path, message)


def _integer(path: Path, value: int, *, key: str) -> str:
    if not -(1 << 63) <= value < 1 << 64:
        raise BadMetadata(path, f"not written: metadata key {key!r} holds {value:.3e}, beyond 64 bits")
    return str(int(value))


def _key(path: Path, key: Any) -> str:
    if not isinstance(key, str):
        raise BadMetadata(
            path, f"not written: the metadata has a key {key!r} of type {type(key).__name__}, not a string"
        )
    return json.dumps(key, ensure_ascii=False)
