"""The matrix product against torch's."""

from __future__ import annotations

import numpy as np
import pytest

from apr.kernels.linear import linear


def inputs(n_tokens: int, n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(n_tokens + n_in + n_out)
    x, weight, bias = (
        random.standard_normal(s).astype(np.float32) for s in ((n_tokens, n_in), (n_out, n_in), (n_out,))
    )
    return x, weight, bias


def by_torch(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    import torch

    arguments = [None if a is None else torch.from_numpy(a) for a in (x, weight, bias)]
    y: np.ndarray = torch.nn.functional.linear(*arguments).numpy()
    return y


@pytest.mark.parity
@pytest.mark.parametrize(("n_tokens", "n_in", "n_out"), [(1, 1, 1), (1, 64, 7), (5, 33, 17), (64, 96, 320)])
@pytest.mark.parametrize("biased", [True, False])
def test_it_equals_torch(n_tokens: int, n_in: int, n_out: int, biased: bool) -> None:
    x, weight, bias = inputs(n_tokens, n_in, n_out)
    given = bias if biased else None
    y = linear(x, weight, given)
    assert y.dtype == np.float32 and y.shape == (n_tokens, n_out)
    np.testing.assert_allclose(y, by_torch(x, weight, given), atol=2e-5, rtol=1e-5)


def test_inputs_are_not_changed() -> None:
    arrays = inputs(3, 4, 5)
    before = [a.copy() for a in arrays]
    linear(*arrays)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parity
def test_a_transposed_weight_and_a_lost_bias_are_seen() -> None:
    x, weight, bias = inputs(3, 8, 8)
    expected = by_torch(x, weight, bias)
    assert np.abs(linear(x, weight.T, bias) - expected).max() > 1e-2
    assert np.abs(linear(x, weight) - expected).max() > 1e-2
