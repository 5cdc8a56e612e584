"""SiLU against torch's."""

from __future__ import annotations

import numpy as np
import pytest

from apr.kernels.silu import silu

X = np.concatenate([np.linspace(-120, 120, 1001), [0.0, -0.0, 1e-30, -1e-30]]).astype(np.float32)


def by_torch(x: np.ndarray) -> np.ndarray:
    import torch

    y: np.ndarray = torch.nn.functional.silu(torch.from_numpy(x)).numpy()
    return y


@pytest.mark.parity
@pytest.mark.parametrize("shape", [(1005,), (1, 1005), (3, 5, 67)])
def test_it_equals_torch(shape: tuple[int, ...]) -> None:
    x = X.reshape(shape)
    y = silu(x)
    assert y.dtype == np.float32 and y.shape == shape
    np.testing.assert_allclose(y, by_torch(x), atol=1e-30, rtol=1e-6)


def test_extreme_values_give_the_limits_without_warnings() -> None:
    x = np.array([-3e38, -1e4, -89.0, 89.0, 3e38], dtype=np.float32)
    np.testing.assert_allclose(silu(x), np.where(x > 0, x, 0), atol=1e-30)


def test_the_input_is_not_changed() -> None:
    x = X.copy()
    silu(x)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parity
def test_a_relu_is_told_apart() -> None:
    assert np.abs(np.maximum(X, 0) - by_torch(X)).max() > 1e-2
