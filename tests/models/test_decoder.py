"""Spans of new tokens: positions and last rows."""

from __future__ import annotations

import numpy as np

from apr.models._decoder import Span, last_rows, no_tap, positions_of
from apr.models._kv_cache import KVCache


def span(n_tokens: int, *, after: int = 0) -> Span:
    cache = KVCache(num_hidden_layers=1, num_key_value_heads=1, head_dim=2)
    cache.advance(after)
    return Span(np.arange(n_tokens), cache)


def test_positions_follow_what_the_cache_holds() -> None:
    assert positions_of(span(3)).tolist() == [0, 1, 2]
    assert positions_of(span(1, after=41)).tolist() == [41]
    assert positions_of(span(2, after=7)).dtype == np.int64


def test_the_last_row_of_each_span_is_taken() -> None:
    x = np.arange(14).reshape(7, 2)
    np.testing.assert_array_equal(last_rows(x, [span(3), span(1), span(3)]), x[[2, 3, 6]])


def test_no_tap_changes_nothing() -> None:
    value = np.zeros(3)
    assert no_tap("embed", value) is value
