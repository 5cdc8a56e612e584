"""The key-value cache against plain concatenation."""

from __future__ import annotations

import numpy as np
import pytest

from apr.models._kv_cache import KVCache


def rows(n_tokens: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_tokens, 2, 4)).astype(np.float32)


def cache() -> KVCache:
    return KVCache(num_hidden_layers=2, num_key_value_heads=2, head_dim=4)


@pytest.mark.parametrize("parts", [[1], [3, 1, 1], [255, 1, 1], [256, 1], [600, 700, 1]])
def test_it_gives_back_everything_in_order(parts: list[int]) -> None:
    k, v = rows(sum(parts)), rows(sum(parts), 1)
    filled, start = cache(), 0
    for n_tokens in parts:
        stop = start + n_tokens
        for layer in (0, 1):
            keys, values = filled.extend(layer, k[start:stop] + layer, v[start:stop] - layer)
            np.testing.assert_array_equal(keys, k[:stop] + layer)
            np.testing.assert_array_equal(values, v[:stop] - layer)
        filled.advance(n_tokens)
        start = stop
    assert filled.length == sum(parts) and filled.n_bytes >= 2 * 2 * k.nbytes


def test_an_interrupted_pass_leaves_it_as_it_was() -> None:
    filled, k = cache(), rows(300)
    filled.extend(0, k[:5], k[:5])
    filled.extend(1, k[:5], k[:5])
    filled.advance(5)
    filled.extend(0, 7 + k, k)  # only one layer, and no advance
    keys, _ = filled.extend(0, k[5:6], k[5:6])
    assert filled.length == 5
    np.testing.assert_array_equal(keys, k[:6])


def test_a_truncated_cache_goes_on_from_there() -> None:
    filled, k = cache(), rows(6)
    filled.extend(0, k, k)
    filled.advance(6)
    filled.truncate(2)
    keys, values = filled.extend(0, k[5:], k[4:5])
    np.testing.assert_array_equal(keys, k[[0, 1, 5]])
    np.testing.assert_array_equal(values, k[[0, 1, 4]])


@pytest.mark.parametrize("length", [-1, 1])
def test_it_cannot_be_truncated_to_what_it_does_not_hold(length: int) -> None:
    with pytest.raises(AssertionError):
        cache().truncate(length)


def test_an_empty_cache_takes_no_memory() -> None:
    assert cache().n_bytes == 0 and cache().length == 0
