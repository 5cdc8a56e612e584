"""Softmax and log-softmax against torch's."""

from __future__ import annotations

import numpy as np
import pytest

from apr.kernels.softmax import log_softmax, softmax


def by_torch(x: np.ndarray, name: str) -> np.ndarray:
    import torch

    y: np.ndarray = getattr(torch, name)(torch.from_numpy(x), dim=-1).numpy()
    return y


@pytest.mark.parity
@pytest.mark.parametrize("shape", [(1, 1), (1, 151), (7, 33), (2, 3, 5)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_equal_torch(shape: tuple[int, ...], scale: float, dtype: type) -> None:
    x = (scale * np.random.default_rng(1).standard_normal(shape)).astype(dtype)
    assert softmax(x).dtype == dtype and log_softmax(x).dtype == dtype
    np.testing.assert_allclose(softmax(x), by_torch(x, "softmax"), atol=1e-30, rtol=2e-5 if scale > 1 else 1e-6)
    np.testing.assert_allclose(log_softmax(x), by_torch(x, "log_softmax"), atol=1e-6, rtol=1e-6)


def test_extreme_values_give_no_warning() -> None:
    x = np.array([[3e38, -3e38, 0.0], [-np.inf, 1.0, -np.inf]], dtype=np.float32)
    with np.errstate(over="ignore"):  # 3e38 - -3e38 has no float32; the probability is still exactly 0
        np.testing.assert_array_equal(softmax(x), [[1, 0, 0], [0, 1, 0]])
    assert log_softmax(np.array([[1e4, 0.0]], dtype=np.float32))[0, 1] == -1e4


def test_inputs_are_not_changed() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    softmax(x)
    log_softmax(x)
    np.testing.assert_array_equal(x, np.arange(6).reshape(2, 3))


@pytest.mark.parity
def test_another_temperature_or_axis_is_seen() -> None:
    x = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    expected = by_torch(x, "softmax")
    assert np.abs(softmax(1.01 * x) - expected).max() > 1e-4
    assert np.abs(softmax(x.T).T - expected).max() > 1e-2
