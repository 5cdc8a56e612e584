"""Small JSON records, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from apr import _atomic


def write(path: Path, record: Mapping[str, object]) -> None:
    """Write a record: sorted keys, so that equal records are equal files."""
    _atomic.write_bytes(path, (json.dumps(record, indent=2, sort_keys=True) + "\n").encode())
