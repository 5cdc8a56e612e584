"""What becomes of each kind of value on its way to JSON."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from apr._plain import plain


def test_numpy_values_are_plain_numbers() -> None:
    assert plain({"a": np.float32(0.5), "b": np.arange(3), "c": np.int64(7), "d": np.float64("inf")}) == {
        "a": 0.5,
        "b": [0, 1, 2],
        "c": 7,
        "d": None,
    }


def test_sets_are_sorted_paths_are_text_and_bytes_are_hexadecimal() -> None:
    assert plain({"a": {3, 1}, "b": Path("x/y"), "c": b"\x01\xff", 4: (1, 2)}) == {
        "a": [1, 3],
        "b": "x/y",
        "c": "01ff",
        "4": [1, 2],
    }
