"""Soft cap against its formula in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from apr.kernels.softcap import softcap

X = np.concatenate([np.linspace(-200, 200, 801), [0.0, -0.0, 1e-30, -1e-30]]).astype(np.float32)


@pytest.mark.parametrize("cap", [1.0, 30.0, 50.0])
@pytest.mark.parametrize("shape", [(805,), (1, 805), (5, 7, 23)])
def test_it_equals_the_formula_in_float64(cap: float, shape: tuple[int, ...]) -> None:
    x = X.reshape(shape)
    y = softcap(x, cap)
    assert y.dtype == np.float32 and y.shape == shape
    expected = [cap * math.tanh(float(v) / cap) for v in x.ravel()]
    np.testing.assert_allclose(y.ravel(), expected, rtol=5e-7, atol=0)


def test_huge_values_become_the_cap_and_nan_stays() -> None:
    x = np.array([-np.inf, -3e38, 3e38, np.inf, np.nan], dtype=np.float32)
    np.testing.assert_array_equal(softcap(x, 30.0), np.array([-30, -30, 30, 30, np.nan], dtype=np.float32))


def test_a_clip_is_told_apart() -> None:
    assert np.abs(np.clip(X, -30, 30) - softcap(X, 30.0)).max() > 1
