"""GELU (tanh) against torch's."""

from __future__ import annotations

import numpy as np
import pytest

from apr.kernels.gelu import gelu_tanh

X = np.concatenate([np.linspace(-12, 12, 1001), [0.0, -0.0, 1e-30, -1e-30]]).astype(np.float32)


def by_torch(x: np.ndarray, approximate: str = "tanh") -> np.ndarray:
    import torch

    y: np.ndarray = torch.nn.functional.gelu(torch.from_numpy(x), approximate=approximate).numpy()
    return y


@pytest.mark.parity
@pytest.mark.parametrize("shape", [(1005,), (1, 1005), (3, 5, 67)])
def test_it_equals_torch(shape: tuple[int, ...]) -> None:
    x = X.reshape(shape)
    y = gelu_tanh(x)
    assert y.dtype == np.float32 and y.shape == shape
    np.testing.assert_allclose(y, by_torch(x), atol=1e-6, rtol=2e-6)


def test_extreme_values_give_the_limits_without_warnings() -> None:
    x = np.array([-3e38, -1e20, -100.0, 100.0, 1e20, 3e38], dtype=np.float32)
    np.testing.assert_array_equal(gelu_tanh(x), np.where(x > 0, x, 0).astype(np.float32))


def test_the_input_is_not_changed() -> None:
    x = X.copy()
    gelu_tanh(x)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parity
def test_the_exact_form_is_told_apart() -> None:
    assert np.abs(gelu_tanh(X) - by_torch(X, "none")).max() > 1e-4
