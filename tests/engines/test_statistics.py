"""The tap that keeps figures: they are those of the values that an ordinary tap sees."""

from __future__ import annotations

import numpy as np

from apr.engines._statistics import Statistics
from apr.kernels.statistics import statistics


def test_a_row_is_a_position_whatever_its_heads() -> None:
    value = np.random.default_rng(0).standard_normal((3, 4, 16)).astype(np.float32)
    tap = Statistics()
    assert tap("layers.0.q_rope", value) is value
    np.testing.assert_array_equal(tap.slots()["layers.0.q_rope"], statistics(value.reshape(3, 64)))


def test_the_rows_of_several_passes_add_up() -> None:
    tap = Statistics()
    for n_rows in (3, 1):
        tap("embed", np.ones((n_rows, 8), dtype=np.float32))
        tap("out", np.zeros((1, 8), dtype=np.float32))
    assert {name: rows.shape for name, rows in tap.slots().items()} == {"embed": (4, 8), "out": (2, 8)}
