"""Small records on disk."""

from __future__ import annotations

import json
from pathlib import Path

from apr.hub import _atomic_json


def test_equal_records_are_equal_files(tmp_path: Path) -> None:
    _atomic_json.write(tmp_path / "a", {"x": 1, "y": [2]})
    _atomic_json.write(tmp_path / "b", {"y": [2], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text()) == {"x": 1, "y": [2]}
