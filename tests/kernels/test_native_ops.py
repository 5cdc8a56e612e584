"""The compiled ops against their NumPy definitions, on every instruction set that this processor has.

Bounds are those that each op's file in `csrc/` states; the definitions are computed in float64 where an op rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from apr.kernels import _extension
from apr.kernels.attention import attention
from apr.kernels.gelu import gelu_tanh
from apr.kernels.rmsnorm import rmsnorm
from apr.kernels.rope import rope, rope_table
from apr.kernels.silu import silu
from apr.kernels.softcap import softcap
from apr.kernels.statistics import statistics

native: Any = _extension.native()
ISAS: list[str] = [] if native is None else native.instruction_sets()
pytestmark = pytest.mark.skipif(native is None, reason="the compiled kernels are not built here")

ULP = 2.0**-23
SIZES = [1, 7, 17, 63, 64, 1000]
KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normal": lambda x: x,
    "zeros": lambda x: x * 0,
    "wide": lambda x: x * 30,
    "tiny": lambda x: x * 1e-30,
    "huge": lambda x: x * 1e30,
}


@pytest.fixture(autouse=True, params=ISAS)
def _isa(request: pytest.FixtureRequest) -> Iterator[None]:
    before = native.instruction_set()
    native.use_instruction_set(request.param)
    yield
    native.use_instruction_set(before)


def a_row(size: int, kind: str, seed: int = 0) -> np.ndarray:
    return KINDS[kind](np.random.default_rng([size, seed]).standard_normal(size)).astype(np.float32)


@pytest.fixture(params=[(size, kind) for size in SIZES for kind in KINDS], ids=lambda p: f"{p[1]}-{p[0]}")
def row(request: pytest.FixtureRequest) -> np.ndarray:
    return a_row(*request.param)


def in_float64(op: Callable[..., np.ndarray], x: np.ndarray, *args: float) -> np.ndarray:
    with np.errstate(all="ignore"):
        return op(x.astype(np.float64), *args)


def test_silu_is_within_its_bound(row: np.ndarray) -> None:
    np.testing.assert_allclose(native.silu(row), in_float64(silu, row), rtol=5 * ULP, atol=1e-36)


def test_gelu_tanh_is_within_its_bounds(row: np.ndarray) -> None:
    actual, expected = native.gelu_tanh(row), in_float64(gelu_tanh, row)
    assert (np.abs(actual - expected) <= 2.0**-22 * np.abs(row.astype(np.float64))).all()
    near = row > -1
    np.testing.assert_allclose(actual[near], expected[near], rtol=5 * ULP, atol=1e-44)


@pytest.mark.parametrize("cap", [1.0, 50.0])
def test_softcap_is_within_its_bound(row: np.ndarray, cap: float) -> None:
    np.testing.assert_allclose(native.softcap(row, cap), in_float64(softcap, row, cap), rtol=6 * ULP, atol=1e-44)


@pytest.mark.parametrize("name", ["silu", "gelu_tanh"])
def test_a_fused_gate_has_the_bits_of_its_two_ops(name: str, row: np.ndarray) -> None:
    up = a_row(row.size, "normal", seed=1)
    with np.errstate(under="ignore"):
        np.testing.assert_array_equal(getattr(native, f"{name}_multiply")(row, up), getattr(native, name)(row) * up)


@pytest.mark.parametrize("name", ["silu", "gelu_tanh"])
def test_a_gate_at_its_limits(name: str) -> None:
    x = np.array([np.inf, 3e38, -3e38, -np.inf, -0.0], dtype=np.float32)
    y = getattr(native, name)(x)
    np.testing.assert_allclose(y, [np.inf, 3e38, 0, 0, 0], rtol=ULP, atol=1e-36)
    assert np.signbit(y[-1])


@pytest.mark.parametrize("op", ["silu", "gelu_tanh", "softcap"])
def test_nan_stays_and_stays_alone(op: str) -> None:
    x = np.linspace(-3, 3, 21).astype(np.float32)
    x[[0, 9, 20]] = np.nan
    y = native.softcap(x, 2.0) if op == "softcap" else getattr(native, op)(x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["normal", "zeros", "wide", "tiny"])
def test_rmsnorm_is_within_its_bound(size: int, kind: str) -> None:
    x, weight = np.stack([a_row(size, kind), a_row(size, kind, 1)]), a_row(size, "normal", 2)
    expected = rmsnorm(x.astype(np.float64), weight.astype(np.float64), eps=1e-6)
    np.testing.assert_allclose(native.rmsnorm(x, weight, 1e-6), expected, rtol=(6 + size / 32) * ULP, atol=1e-44)


def test_rmsnorm_of_huge_and_of_nan_is_the_definitions() -> None:
    x = np.stack([a_row(63, "huge"), a_row(63, "normal")])
    x[1, 40] = np.nan
    with np.errstate(over="ignore"):
        expected = rmsnorm(x, np.ones(63, np.float32), eps=1e-6)
    assert not expected[0].any()
    np.testing.assert_array_equal(native.rmsnorm(x, np.ones(63, np.float32), 1e-6), expected)


@pytest.mark.parametrize(("head_dim", "rotary_dim"), [(2, 2), (14, 14), (64, 64), (80, 34), (256, 256)])
def test_rope_has_the_bits_of_its_definition(head_dim: int, rotary_dim: int) -> None:
    x = a_row(5 * 3 * head_dim, "normal").reshape(5, 3, head_dim)
    inverse_frequencies = 10000.0 ** -np.linspace(0, 1, rotary_dim // 2, dtype=np.float32)
    cos, sin = rope_table(np.arange(5) * 37, inverse_frequencies)
    np.testing.assert_array_equal(native.rope(x, cos, sin), rope(x, (cos, sin)))


def test_statistics_are_the_definitions(row: np.ndarray) -> None:
    x = np.stack([row, row[::-1]])
    x[1, :: max(3, row.size // 5)] = np.array([np.nan, np.inf, -np.inf] * 3)[: len(x[1, :: max(3, row.size // 5)])]
    np.testing.assert_allclose(native.statistics(x), statistics(x), rtol=1e-12, atol=1e-60)


def test_statistics_of_a_large_mean_keep_the_deviation() -> None:
    x = (1e6 + np.random.default_rng(1).standard_normal((1, 999))).astype(np.float32)
    np.testing.assert_allclose(native.statistics(x), statistics(x), rtol=1e-12)


def inputs(
    n_queries: int, n_keys: int, heads: int, kv_heads: int, head_dim: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(n_queries + 7 * n_keys + heads)
    shapes = ((n_queries, heads, head_dim), (n_keys, kv_heads, head_dim), (n_keys, kv_heads, head_dim))
    q, k, v = (random.standard_normal(shape).astype(np.float32) for shape in shapes)
    return q, k, v


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("n_queries", "n_keys", "heads", "kv_heads", "head_dim"),
    [
        (1, 1, 1, 1, 1),
        (1, 17, 4, 2, 16),
        (5, 5, 3, 3, 7),
        (7, 13, 6, 1, 10),
        (3, 129, 14, 2, 64),
        (130, 130, 2, 2, 33),
        (20, 300, 9, 3, 80),
    ],
)
@pytest.mark.parametrize("window", [0, 1, 4, 40, 1000])
@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_attention_is_within_its_bound(
    n_queries: int, n_keys: int, heads: int, kv_heads: int, head_dim: int, dtype: str, window: int, cap: float
) -> None:
    q, k, v = inputs(n_queries, n_keys, heads, kv_heads, head_dim)
    actual = native.attention(q, k, v, head_dim**-0.5, window, cap, dtype)
    stored = [a.astype(dtype).astype(np.float64) for a in (k, v)]
    scale = float(np.float32(head_dim**-0.5))
    expected = attention(q.astype(np.float64), *stored, scale=scale, window=window or None, softcap=cap or None)
    np.testing.assert_allclose(actual, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("window", [0, 20])
def test_attention_gives_a_row_the_same_bits_in_any_company(window: int) -> None:
    q, k, v = inputs(150, 150, 14, 2, 40)
    whole = native.attention(q, k, v, 0.2, window, 0.0, "float32")
    for n in (1, 2, 3, 5, 33):  # the last n queries by themselves, the first n without what follows
        np.testing.assert_array_equal(native.attention(q[-n:], k, v, 0.2, window, 0.0, "float32"), whole[-n:])
        np.testing.assert_array_equal(native.attention(q[:n], k[:n], v[:n], 0.2, window, 0.0, "float32"), whole[:n])
    one_head = [np.ascontiguousarray(a) for a in (q[:, 9:10], k[:, 1:], v[:, 1:])]
    alone = native.attention(*one_head, 0.2, window, 0.0, "float32")
    np.testing.assert_array_equal(alone, whole[:, 9 * 40 : 10 * 40])


@pytest.mark.parametrize("window", [0, 5])
def test_attention_lets_nothing_through_that_a_query_does_not_see(window: int) -> None:
    q, k, v = inputs(40, 40, 2, 1, 16)
    clean = native.attention(q, k, v, 0.25, window, 0.0, "float16")
    k[22], v[23] = np.nan, np.inf
    spoilt = native.attention(q, k, v, 0.25, window, 0.0, "float16")
    np.testing.assert_array_equal(spoilt[:22], clean[:22])
    if window:
        np.testing.assert_array_equal(spoilt[28:], clean[28:])
    assert np.isnan(spoilt[22]).all()


def test_attention_of_scores_far_apart_is_one_value() -> None:
    q, k, v = inputs(2, 3, 1, 1, 2)
    q[:], k[:] = 1e6, np.array([1e6, -1e6, -1e6], dtype=np.float32)[:, None, None]
    np.testing.assert_array_equal(native.attention(q, k, v, 1.0, 0, 0.0, "float32"), np.concatenate([v[0], v[0]]))


@pytest.mark.parametrize("size", [1, 7, 63, 64, 1000, 50_000])
def test_a_summary_has_the_sum_of_the_exponentials(size: int) -> None:
    x = a_row(size, "normal") * 4
    exact = x.astype(np.float64)
    expected = exact.max() + np.log(np.exp(exact - exact.max()).sum())
    summary = native.summarize(x, 1)
    assert summary.log_sum == pytest.approx(expected, abs=2e-6) and summary.is_finite
    assert summary.top.tolist() == [int(x.argmax())]


def test_a_summary_says_whether_all_is_finite() -> None:
    x = a_row(100, "normal")
    x[63] = np.nan
    summary = native.summarize(x, 100)
    assert not summary.is_finite and summary.top[-1] == 63 and sorted(summary.top) == list(range(100))
