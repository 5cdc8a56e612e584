"""Causal attention over a key-value cache, with grouped queries, a sliding window and a soft cap."""

from __future__ import annotations

import numpy as np

from apr.kernels.softmax import softmax

# query rows scored at a time: bounds the score matrix to num_heads * 256 * n_keys values
QUERY_CHUNK = 256


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> np.ndarray:
    """Each query attends to the keys at its own position and before.

    q:       float32 [n_queries, num_heads, head_dim]: the last n_queries positions of the sequence
    k, v:    float32 [n_keys, num_key_value_heads, head_dim], n_keys >= n_queries, in order of position
    scale:   multiplies the scores
    window:  a query sees its own position and the window - 1 before it; None means all
    softcap: scores become softcap * tanh(score / softcap)
    Returns  float32 [n_queries, num_heads * head_dim]
    Source   Vaswani et al. 2017; grouped queries: Ainslie et al. 2023; window as in transformers' sliding mask.
    """
    n_queries = q.shape[0]
    past = k.shape[0] - n_queries
    out = np.empty((n_queries, q.shape[1] * v.shape[2]), dtype=np.float32)
    for start in range(0, n_queries, QUERY_CHUNK):
        stop = min(start + QUERY_CHUNK, n_queries)
        first = (
            0 if window is None else max(0, past + start - window + 1)
        )  # keys before this one are seen by no query here
        keys = slice(first, past + stop)
        mask = _mask(past + start - first, stop - start, past + stop - first, window)
        out[start:stop] = _chunk(q[start:stop], k[keys], v[keys], mask, scale, softcap)
    return out


def _mask(past: int, n_queries: int, n_keys: int, window: int | None) -> np.ndarray | None:
    """bool [n_queries, n_keys], True where a key is hidden; None when nothing is."""
    if n_queries == 1:
        return None  # the caller has already cut the keys to what this one query sees
    query_positions = np.arange(past, past + n_queries)[:, None]
    key_positions = np.arange(n_keys)[None, :]
    hidden: np.ndarray = key_positions > query_positions
    if window is not None:
        hidden |= key_positions <= query_positions - window
    return hidden


def _chunk(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, scale: float, softcap: float | None
) -> np.ndarray:
    n_queries, num_heads, head_dim = q.shape
    num_kv = k.shape[1]
    group = num_heads // num_kv
    # heads of one group lie side by side: [num_kv, group * n_queries, head_dim]
    grouped = (
        q.reshape(n_queries, num_kv, group, head_dim).transpose(1, 2, 0, 3).reshape(num_kv, group * n_queries, head_dim)
    )
    scores = (grouped @ k.transpose(1, 2, 0)) * np.float32(scale)  # [num_kv, group * n_queries, n_keys]
    if softcap is not None:
        scores = np.float32(softcap) * np.tanh(scores / np.float32(softcap))
    if mask is not None:
        scores = scores.reshape(num_kv, group, n_queries, -1)
        scores[..., mask] = -np.inf
        scores = scores.reshape(num_kv, group * n_queries, -1)
    context = softmax(scores) @ v.transpose(1, 0, 2)  # [num_kv, group * n_queries, head_dim]
    return np.ascontiguousarray(
        context.reshape(num_kv, group, n_queries, -1).transpose(2, 0, 1, 3).reshape(n_queries, num_heads * v.shape[2])
    )
