"""The batch that is computed as it is asked for, and tables of cosines and sines."""

from __future__ import annotations

import numpy as np
import pytest

import tiny
from apr.kernels.attention import attention
from apr.kernels.rope import rope_table
from apr.models._config import RopeScaling
from apr.models._decoder import RopeTables, Span, SpanBatch, no_tap
from apr.models._kv_cache import KVCache
from apr.models._rope import inverse_frequencies

LONGROPE = RopeScaling(
    "longrope", 8.0, original_max_position_embeddings=32, short_factor=(1.0,) * 8, long_factor=(4.0,) * 8
)


def span(n_tokens: int, *, after: int = 0) -> Span:
    cache = KVCache(num_hidden_layers=1, num_key_value_heads=2, head_dim=4)
    earlier = np.random.default_rng(after).standard_normal((after, 2, 4)).astype(np.float32)
    cache.extend(0, earlier, earlier)
    cache.advance(after)
    return Span(np.arange(n_tokens), cache)


def batch(*spans: Span) -> SpanBatch:
    return SpanBatch(spans, RopeTables(tiny.config()))


def test_the_tokens_of_all_sequences_follow_each_other() -> None:
    assert batch(span(3), span(1), span(2)).token_ids.tolist() == [0, 1, 2, 0, 0, 1]


def test_the_last_row_of_each_sequence_is_taken() -> None:
    x = np.arange(14).reshape(7, 2)
    np.testing.assert_array_equal(batch(span(3), span(1), span(3)).last_rows(x), x[[2, 3, 6]])


def test_positions_follow_what_each_cache_holds() -> None:
    cos, sin = batch(span(3), span(2, after=7)).rope_table(None)
    frequencies, factor = inverse_frequencies(tiny.config(), n_positions=9)
    expected = rope_table(np.array([0, 1, 2, 7, 8]), frequencies, factor=factor)
    np.testing.assert_allclose((cos, sin), expected, rtol=0, atol=1e-7)


def test_each_sequence_attends_to_its_own_keys_and_is_counted_once() -> None:
    spans = [span(3), span(1, after=5), span(2)]
    q, k, v = (np.random.default_rng(i).standard_normal((6, 2, 4)).astype(np.float32) for i in range(3))
    together = batch(*spans)
    out = together.attention(0, q, k, v, scale=0.5, window=None, softcap=None)
    alone = attention(q[4:], k[4:], v[4:], scale=0.5)
    np.testing.assert_array_equal(out[4:], alone)
    assert [s.cache.length for s in spans] == [0, 5, 0]
    together.advance()
    assert [s.cache.length for s in spans] == [3, 6, 2]


@pytest.mark.parametrize("stops", [[1, 2, 300, 301, 2000], [2000, 1], [256, 257]])
def test_a_row_of_a_table_does_not_depend_on_what_was_asked_for_before(stops: list[int]) -> None:
    tables, whole = RopeTables(tiny.config()), RopeTables(tiny.config()).rows(None, 0, 4096, n_positions=4096)
    for stop in stops:
        rows = tables.rows(None, max(0, stop - 3), stop, n_positions=stop)
        np.testing.assert_array_equal(rows, whole[max(0, stop - 3) : stop])
        assert rows.dtype == np.float32 and rows.flags.c_contiguous


def test_another_base_has_a_table_of_its_own() -> None:
    tables = RopeTables(tiny.config())
    assert (tables.rows(500.0, 5, 6, n_positions=6) != tables.rows(None, 5, 6, n_positions=6)).any()


def test_longrope_looks_at_the_length_of_the_whole_sequence() -> None:
    tables = RopeTables(tiny.config("phi3", rope_scaling=LONGROPE))
    short, long = (tables.rows(None, 0, 10, n_positions=n) for n in (32, 33))
    assert (short[1:] != long[1:]).any()
    np.testing.assert_array_equal(tables.rows(None, 0, 10, n_positions=10), short)


def test_no_tap_changes_nothing() -> None:
    value = np.zeros(3)
    assert no_tap("embed", value) is value
