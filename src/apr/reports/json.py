"""Results as JSON: dataclasses as objects, paths as text, no NaN, keys in the order of their fields."""

from __future__ import annotations

import dataclasses
import json as _json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apr import _atomic


def dumps(result: Any) -> str:
    """One line of JSON."""
    return _json.dumps(plain(result), ensure_ascii=False, allow_nan=False)


def save(result: Any, path: Path) -> None:
    """Write a result to a file, indented, whole or not at all."""
    text = _json.dumps(plain(result), ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    _atomic.write_bytes(path, text.encode("utf-8", "surrogatepass"))


def plain(value: Any) -> Any:
    """Dataclasses, tuples, sets, paths and numpy scalars as what JSON knows; a float that is not finite becomes null."""
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
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
