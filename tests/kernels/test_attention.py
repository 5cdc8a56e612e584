"""Attention against torch's, over chunk borders, windows, grouped heads and soft caps."""

from __future__ import annotations

import numpy as np
import pytest

from apr.kernels.attention import QUERY_CHUNK, attention

BOUND = 2e-6  # of values of magnitude 1


def inputs(
    n_queries: int, n_keys: int, heads: int, kv_heads: int, head_dim: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(n_queries + 7 * n_keys + heads)
    shapes = ((n_queries, heads, head_dim), (n_keys, kv_heads, head_dim), (n_keys, kv_heads, head_dim))
    q, k, v = (random.standard_normal(shape).astype(np.float32) for shape in shapes)
    return q, k, v


def seen(n_queries: int, n_keys: int, window: int | None) -> np.ndarray:
    """bool [n_queries, n_keys], True where a query may look; written out, one pair at a time."""
    past = n_keys - n_queries
    rows = [
        [j <= past + i and (window is None or past + i - j < window) for j in range(n_keys)] for i in range(n_queries)
    ]
    return np.array(rows)


def by_torch(q: np.ndarray, k: np.ndarray, v: np.ndarray, *, scale: float, window: int | None = None) -> np.ndarray:
    import torch

    mask = torch.from_numpy(seen(q.shape[0], k.shape[0], window))
    tensors = (torch.from_numpy(a).transpose(0, 1)[None] for a in (q, k, v))
    out = torch.nn.functional.scaled_dot_product_attention(*tensors, attn_mask=mask, scale=scale, enable_gqa=True)
    result: np.ndarray = out[0].transpose(0, 1).reshape(q.shape[0], -1).numpy()
    return result


@pytest.mark.parity
@pytest.mark.parametrize(
    ("n_queries", "n_keys", "heads", "kv_heads", "head_dim"),
    [
        (1, 1, 1, 1, 1),
        (1, 17, 4, 2, 16),
        (5, 5, 3, 3, 7),
        (7, 13, 6, 1, 10),
        (9, 40, 14, 2, 64),
        (QUERY_CHUNK - 1, QUERY_CHUNK - 1, 2, 1, 4),
        (QUERY_CHUNK, QUERY_CHUNK + 3, 2, 2, 4),
        (QUERY_CHUNK + 1, QUERY_CHUNK + 1, 2, 1, 4),
        (2 * QUERY_CHUNK + 5, 2 * QUERY_CHUNK + 9, 2, 1, 4),
    ],
)
@pytest.mark.parametrize("window", [None, 1, 4, QUERY_CHUNK, 10_000])
def test_it_equals_torch(
    n_queries: int, n_keys: int, heads: int, kv_heads: int, head_dim: int, window: int | None
) -> None:
    q, k, v = inputs(n_queries, n_keys, heads, kv_heads, head_dim)
    expected = by_torch(q, k, v, scale=head_dim**-0.5, window=window)
    actual = attention(q, k, v, scale=head_dim**-0.5, window=window)
    assert actual.dtype == np.float32 and actual.shape == (n_queries, heads * head_dim)
    np.testing.assert_allclose(actual, expected, atol=BOUND, rtol=0)


@pytest.mark.parametrize("n_queries", [1, 6])
def test_a_soft_cap_equals_the_formula_in_float64(n_queries: int) -> None:
    q, k, v = inputs(n_queries, 11, 4, 4, 8)
    q *= 10
    scores = np.einsum("qhd,khd->hqk", q.astype(np.float64), k.astype(np.float64)) * 0.3
    scores = np.where(seen(n_queries, 11, None), 5.0 * np.tanh(scores / 5.0), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), v).reshape(n_queries, -1)
    np.testing.assert_allclose(attention(q, k, v, scale=0.3, softcap=5.0), expected, atol=1e-5, rtol=0)
    assert np.abs(attention(q, k, v, scale=0.3) - expected).max() > 1e-2


def test_a_window_of_one_gives_each_querys_own_value() -> None:
    q, k, v = inputs(300, 305, 2, 2, 4)
    np.testing.assert_array_equal(attention(q, k, v, scale=1.0, window=1), v[5:].reshape(300, -1))


def test_scores_far_apart_give_no_warning_and_one_value() -> None:
    q, k, v = inputs(2, 3, 1, 1, 2)
    q[:], k[:] = 1e6, np.array([1e6, -1e6, -1e6], dtype=np.float32)[:, None, None]
    np.testing.assert_array_equal(attention(q, k, v, scale=1.0), np.concatenate([v[0], v[0]]))


def test_inputs_are_not_changed() -> None:
    arrays = inputs(5, 9, 4, 2, 8)
    before = [a.copy() for a in arrays]
    attention(*arrays, scale=0.1, window=3, softcap=2.0)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parity
@pytest.mark.parametrize("defect", [{"window": 5}, {"scale": 0.26}, {"softcap": 20.0}])
def test_a_planted_defect_is_seen(defect: dict[str, float]) -> None:
    q, k, v = inputs(8, 12, 4, 2, 16)
    expected = by_torch(q, k, v, scale=0.25, window=4)
    actual = attention(q, k, v, **({"scale": 0.25, "window": 4} | defect))
    assert np.abs(actual - expected).max() > 10 * BOUND
