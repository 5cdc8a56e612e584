"""Rounding halves away from zero."""

from __future__ import annotations

import numpy as np
import pytest

from apr.kernels.quants._rounding import round_half_away


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(0.5, 1), (-0.5, -1), (1.5, 2), (2.5, 3), (-2.5, -3), (0.49999997, 0), (-0.49999997, 0), (1e-45, 0), (126.5, 127)],
)
def test_halves_go_away_from_zero_and_the_rest_to_the_nearest(value: float, rounded: int) -> None:
    assert round_half_away(np.array([value], dtype=np.float32)) == rounded
