"""RMSNorm against torch's."""

from __future__ import annotations

import numpy as np
import pytest

from apr.kernels.rmsnorm import rmsnorm


def inputs(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(sum(shape))
    return random.standard_normal(shape).astype(np.float32), random.standard_normal(shape[-1]).astype(np.float32)


def by_torch(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    import torch

    y: np.ndarray = torch.nn.functional.rms_norm(
        torch.from_numpy(x), (x.shape[-1],), torch.from_numpy(weight), eps
    ).numpy()
    return y


@pytest.mark.parity
@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (5, 33), (7, 4, 16)])
@pytest.mark.parametrize("eps", [1e-6, 1e-5, 0.1])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_it_equals_torch(shape: tuple[int, ...], eps: float, scale: float) -> None:
    x, weight = inputs(*shape)
    x *= np.float32(scale)
    y = rmsnorm(x, weight, eps=eps)
    assert y.dtype == np.float32 and y.shape == shape
    np.testing.assert_allclose(y, by_torch(x, weight, eps), atol=1e-6, rtol=2e-6)


def test_a_row_of_zeros_stays_zero() -> None:
    np.testing.assert_array_equal(rmsnorm(np.zeros((2, 8), np.float32), np.ones(8, np.float32), eps=1e-6), 0)


def test_inputs_are_not_changed() -> None:
    x, weight = inputs(3, 8)
    before = x.copy(), weight.copy()
    rmsnorm(x, weight, eps=1e-6)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(weight, before[1])


@pytest.mark.parity
def test_another_epsilon_or_offset_is_seen() -> None:
    x, weight = inputs(4, 16)
    expected = by_torch(x, weight, 1e-6)
    assert np.abs(rmsnorm(x, weight, eps=1e-4) - expected).max() > 1e-5
    assert np.abs(rmsnorm(x, 1 + weight, eps=1e-6) - expected).max() > 1e-1
