"""Plain types: where float32 is narrower than the type."""

from __future__ import annotations

import numpy as np
import pytest

from apr.kernels import quants


@pytest.mark.parametrize(
    ("name", "stored", "value"),
    [
        ("i32", 2**24 + 1, 2.0**24),  # a tie: to even
        ("i32", 2**24 + 3, 2.0**24 + 4),
        ("i64", -(2**63), -(2.0**63)),
        # between two float32, a little over the middle; by way of float64 it would be the middle, and then even
        ("i64", 2**62 + 2**38 + 1, 2.0**62 + 2.0**39),
        ("f64", 1e300, np.inf),
        ("f64", -0.0, -0.0),
        ("f64", 1e-320, 0.0),
    ],
)
def test_a_value_is_rounded_once(name: str, stored: float, value: float) -> None:
    codec = quants.codec(name)
    raw = np.array([stored], dtype={"i32": "<i4", "i64": "<i8", "f64": "<f8"}[name]).view(np.uint8)
    decoded = codec.decode(raw, (1,))
    assert decoded[0] == value and np.signbit(decoded[0]) == np.signbit(value)
