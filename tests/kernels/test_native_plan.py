"""Recorded forward passes: against the NumPy kernels, whatever is run together, and what they refuse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from apr.kernels import _native
from apr.kernels.attention import attention
from apr.kernels.rmsnorm import rmsnorm
from apr.kernels.rope import rope, rope_table
from apr.kernels.silu import silu
from apr.kernels.statistics import statistics

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, VOCAB = 64, 4, 2, 16, 96, 50
LAYERS = 2
QKV = (HEADS + 2 * KV_HEADS) * HEAD_DIM
WINDOWS = (0, 5)  # of each layer


def q8_0(rng: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Random blocks, as the bytes of a file and decoded to float32 [rows, columns]."""
    quants = rng.integers(-127, 128, (rows, columns // 32, 32), dtype=np.int8)
    scales = rng.uniform(0.0005, 0.003, (rows, columns // 32, 1)).astype(np.float16)
    raw = np.concatenate([scales.view(np.uint8), quants.view(np.uint8)], axis=2).reshape(-1)
    return raw, (scales.astype(np.float32) * quants).reshape(rows, columns)


def weight(codec: str, raw: np.ndarray, rows: int, columns: int) -> _native.Weight:
    w = _native.Weight(codec, rows, columns)
    w.fill(raw, 0, rows, None)
    return w


@dataclass
class Model:
    """A decoder of two layers: its plan, and the same in NumPy."""

    plan: _native.Plan
    arrays: dict[str, np.ndarray]
    hidden: int
    logits: int
    n_steps: int

    def forward(
        self, tokens: Sequence[Sequence[int]], caches: Sequence[_native.KVCache], pool: _native.Pool
    ) -> np.ndarray:
        """New tokens of each sequence through the plan: its logits."""
        positions = [np.arange(c.length, c.length + len(t)) for c, t in zip(caches, tokens, strict=True)]
        ids = np.concatenate([np.asarray(t, dtype=np.int64) for t in tokens])
        self.plan.bind(ids, caches, [len(t) for t in tokens], list(angles(np.concatenate(positions))))
        self.plan.run(pool, 0, self.n_steps)
        self.plan.advance()
        return self.plan.read(self.logits)

    def expected(self, tokens: Sequence[int]) -> np.ndarray:
        """Logits of all positions of one sequence, by the NumPy kernels."""
        a, n = self.arrays, len(tokens)
        x = a["embed"][list(tokens)]
        cos, sin = np.split(angles(np.arange(n))[0], 2, axis=1)
        for i in range(LAYERS):
            h = rmsnorm(x, a[f"{i}.norm"], eps=1e-5)
            qkv = h @ a[f"{i}.qkv"].T + a[f"{i}.bias"]
            q, k, v = np.split(qkv.reshape(n, -1, HEAD_DIM), [HEADS, HEADS + KV_HEADS], axis=1)
            context = attention(
                rope(q, (cos, sin)), rope(k, (cos, sin)), v, scale=0.25, window=WINDOWS[i] or None, softcap=30.0
            )
            x = x + context @ a[f"{i}.o"].T
            h = rmsnorm(x, a[f"{i}.norm"], eps=1e-5)
            x = x + (silu(h @ a[f"{i}.gate"].T) * (h @ a[f"{i}.up"].T)) @ a[f"{i}.down"].T
        logits: np.ndarray = rmsnorm(x, a["norm"], eps=1e-5) @ a["embed"].T
        return logits


def angles(positions: np.ndarray) -> list[np.ndarray]:
    """The one table that the model reads: cosines, then sines."""
    frequencies = (1.0 / 100.0 ** (np.arange(0, HEAD_DIM, 2) / HEAD_DIM)).astype(np.float32)
    return [np.concatenate(rope_table(positions, frequencies), axis=1)]


def model(activations: str = "int8", *, rows: str = "last") -> Model:
    rng = np.random.default_rng(7)
    plan, arrays = _native.Plan(activations), {}

    def matrix(name: str, n_rows: int, n_columns: int) -> _native.Weight:
        raw, arrays[name] = q8_0(rng, n_rows, n_columns)
        return weight("q8_0", raw, n_rows, n_columns)

    def vector(name: str, size: int) -> np.ndarray:
        arrays[name] = rng.uniform(0.5, 1.5, size).astype(np.float32)
        return arrays[name]

    raw, arrays["embed"] = q8_0(rng, VOCAB, HIDDEN)
    x, h, qkv, context = (plan.buffer(width) for width in (HIDDEN, HIDDEN, QKV, HEADS * HEAD_DIM))
    ends = np.cumsum([0, HEADS, KV_HEADS, KV_HEADS]) * HEAD_DIM
    q, k, v = (plan.columns(qkv, int(a), int(b)) for a, b in pairwise(ends))
    gate, up = plan.buffer(FFN), plan.buffer(FFN)
    plan.embedding(_native.Table("q8_0", VOCAB, HIDDEN, raw), x)
    for i in range(LAYERS):
        norm = vector(f"{i}.norm", HIDDEN)
        plan.rmsnorm(x, norm, 1e-5, h)
        plan.linear(h, [(matrix(f"{i}.qkv", QKV, HIDDEN), vector(f"{i}.bias", QKV), qkv)])
        plan.rope(q, 0, HEAD_DIM, q)
        plan.rope(k, 0, HEAD_DIM, k)
        plan.attention(q, k, v, context, i, HEAD_DIM, 0.25, WINDOWS[i], 30.0)
        plan.linear(context, [(matrix(f"{i}.o", HIDDEN, HEADS * HEAD_DIM), None, h)])
        plan.add(x, h, x)
        plan.rmsnorm(x, norm, 1e-5, h)
        plan.linear(h, [(matrix(f"{i}.gate", FFN, HIDDEN), None, gate), (matrix(f"{i}.up", FFN, HIDDEN), None, up)])
        plan.silu_multiply(gate, up, gate)
        plan.linear(gate, [(matrix(f"{i}.down", HIDDEN, FFN), None, h)])
        plan.add(x, h, x)
    if rows == "last":
        plan.last_rows(x, h)  # a buffer that held rows of tokens
        x = h
    plan.rmsnorm(x, vector("norm", HIDDEN), 1e-5, x)
    logits = plan.buffer(VOCAB)
    last = plan.linear(x, [(weight("q8_0", raw, VOCAB, HIDDEN), None, logits)])
    return Model(plan, arrays, x, logits, last + 1)


def cache(dtype: str = "float32") -> _native.KVCache:
    return _native.KVCache(LAYERS, KV_HEADS, HEAD_DIM, dtype)


def tokens(n: int, seed: int = 0) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(0, VOCAB, n)]


@pytest.mark.parametrize("n_tokens", [1, 2, 7, 130, 300])
def test_it_equals_the_numpy_kernels(n_tokens: int) -> None:
    m, ids = model("float32", rows="all"), tokens(n_tokens)
    expected = m.expected(ids)
    actual = m.forward([ids], [cache()], _native.Pool(2))
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("activations", ["int8", "float32"])
def test_quantised_activations_and_caches_are_near(activations: str, dtype: str) -> None:
    m, ids = model(activations), tokens(40)
    expected = m.expected(ids)[-1:]
    actual = m.forward([ids], [cache(dtype)], _native.Pool(2))
    assert actual.shape == (1, VOCAB)
    bound = 0.05 if activations == "int8" else 2e-3 if dtype == "float16" else 1e-5
    np.testing.assert_allclose(actual, expected, atol=bound * np.abs(expected).max())


@pytest.mark.parametrize("activations", ["int8", "float32"])
@pytest.mark.parametrize("name", _native.instruction_sets())
def test_bits_do_not_depend_on_threads_splits_or_neighbours(activations: str, name: str) -> None:
    used = _native.instruction_set()
    _native.use_instruction_set(name)
    try:
        m, ids, pool = model(activations, rows="all"), tokens(140), _native.Pool(3)
        at_once = m.forward([ids], [cache("float16")], _native.Pool(1))
        np.testing.assert_array_equal(m.forward([ids], [cache("float16")], pool), at_once)

        piecewise, held = [], cache("float16")
        for start, stop in [(0, 1), (1, 3), (3, 10), (10, 127), (127, 128), (128, 129), (129, 140)]:
            piecewise.append(m.forward([ids[start:stop]], [held], pool))
        assert held.length == 140
        np.testing.assert_array_equal(np.concatenate(piecewise), at_once)

        batch = m.forward([tokens(9, 1), ids, tokens(3, 2)], [cache("float16") for _ in range(3)], pool)
        np.testing.assert_array_equal(batch[9:149], at_once)
    finally:
        _native.use_instruction_set(used)


def test_the_last_rows_are_those_of_each_sequence() -> None:
    lengths, pool = (3, 1, 20), _native.Pool(2)
    ids = [tokens(n, n) for n in lengths]
    last = model().forward(ids, [cache() for _ in ids], pool)
    everything = model(rows="all").forward(ids, [cache() for _ in ids], pool)
    np.testing.assert_array_equal(last, everything[np.cumsum(lengths) - 1])


def test_forgotten_positions_leave_no_trace() -> None:
    m, ids, pool, held = model(), tokens(20), _native.Pool(1), cache()
    expected = m.forward([ids], [held], pool)
    n_bytes = held.n_bytes
    m.forward([tokens(200, 3)], [held], pool)
    held.truncate(19)
    np.testing.assert_array_equal(m.forward([ids[19:]], [held], pool), expected)
    assert held.n_bytes == 2 * n_bytes  # pages stay


def test_nothing_is_counted_before_advance() -> None:
    m, ids, pool, held = model(), tokens(6), _native.Pool(1), cache()
    for _ in range(2):  # the second run writes over the first
        m.plan.bind(np.array(ids), [held], [6], angles(np.arange(6)))
        m.plan.run(pool, 0, m.n_steps)
        assert held.length == 0
    m.plan.advance()
    assert held.length == 6
    with pytest.raises(RuntimeError, match="counted already"):
        m.plan.advance()
    with pytest.raises(RuntimeError, match="counted already"):
        m.plan.run(pool, 0, m.n_steps)
    assert m.plan.read(m.logits).shape == (1, VOCAB)


def test_a_cache_that_changed_since_bind_is_not_counted() -> None:
    m, held = model(), cache()
    m.forward([tokens(4)], [held], _native.Pool(1))
    m.plan.bind(np.array([1]), [held], [1], angles(np.arange(4, 5)))
    held.truncate(2)
    with pytest.raises(RuntimeError, match="holds 2 positions, it held 4"):
        m.plan.advance()


def test_values_are_read_replaced_and_summed_up_between_steps() -> None:
    plan, pool = _native.Plan("int8"), _native.Pool(2)
    x, y = plan.buffer(40), plan.buffer(40)
    part = plan.columns(y, 8, 24)
    plan.scale(x, 2.0, y)
    plan.silu(part, part)
    plan.bind(np.zeros(3, dtype=np.int64), [_native.KVCache(1, 1, 1, "float32")], [3], [])
    values = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32)
    values.flags.writeable = False
    plan.write(x, values)
    plan.run(pool, 0, 1)
    np.testing.assert_array_equal(plan.read(y), 2 * values)
    np.testing.assert_array_equal(plan.read(part), 2 * values[:, 8:24])
    np.testing.assert_array_equal(plan.statistics(pool, part), _native.statistics(2 * values[:, 8:24].copy()))
    np.testing.assert_allclose(plan.statistics(pool, part), statistics(2 * values[:, 8:24]), rtol=1e-6)
    plan.write(part, np.ones((3, 16), dtype=np.float32))
    plan.run(pool, 1, 2)
    np.testing.assert_allclose(plan.read(part), 1 / (1 + np.exp(-1)), rtol=1e-6)
    np.testing.assert_array_equal(plan.read(y)[:, :8], 2 * values[:, :8])
    with pytest.raises(ValueError, match=r"values is \[1, 40\], expected \[3, 40\]"):
        plan.write(x, np.zeros((1, 40), dtype=np.float32))


@pytest.mark.parametrize("columns", [10, 5000, 40_000])
@pytest.mark.parametrize("n_tokens", [1, 9])
def test_long_rows_are_shared_among_threads(columns: int, n_tokens: int) -> None:
    plan = _native.Plan("int8")
    x, y = plan.buffer(columns), plan.buffer(columns)
    plan.multiply(x, y, y)
    plan.rmsnorm(y, np.ones(5, dtype=np.float32), 1e-6, x)
    plan.bind(np.zeros(n_tokens, dtype=np.int64), [_native.KVCache(1, 1, 1, "float32")], [n_tokens], [])
    a, b = np.random.default_rng(0).standard_normal((2, n_tokens, columns)).astype(np.float32)
    plan.write(x, a)
    plan.write(y, b)
    plan.run(_native.Pool(3), 0, 2)
    np.testing.assert_array_equal(plan.read(y), a * b)
    heads = rmsnorm((a * b).reshape(-1, 5), np.ones(5, dtype=np.float32), eps=1e-6).reshape(n_tokens, columns)
    np.testing.assert_allclose(plan.read(x), heads, rtol=2e-6)


def test_one_plan_does_not_run_twice_at_a_time() -> None:
    m, pool, said = model(rows="all"), _native.Pool(2), []
    ids = np.array(tokens(300))
    m.plan.bind(ids, [cache()], [300], angles(np.arange(300)))
    started = threading.Barrier(2)

    def run() -> None:
        started.wait()
        for _ in range(20):
            try:
                m.plan.run(pool, 0, m.n_steps)
            except RuntimeError as error:
                said.append(str(error))

    runners = [threading.Thread(target=run) for _ in range(2)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert set(said) <= {"the plan is at work in another thread"}


Bound = tuple[np.ndarray, list[_native.KVCache], list[int], list[np.ndarray]]


def bound(**change: object) -> Bound:
    ids, held = np.array([1, 2, 3]), cache()
    given = {"ids": ids, "caches": [held, cache()], "lengths": [2, 1], "tables": angles(np.array([0, 1, 0]))} | change
    return given["ids"], given["caches"], given["lengths"], given["tables"]  # type: ignore[return-value]


SAME = cache()
WRONG: dict[str, tuple[Callable[[], Bound], str]] = {
    "id below 0": (lambda: bound(ids=np.array([1, -1, 3])), r"token_ids\[1\] is -1"),
    "id above": (lambda: bound(ids=np.array([1, 2, VOCAB])), r"token_ids\[2\] is 50, .* 50 rows"),
    "dtype of ids": (lambda: bound(ids=np.array([1, 2, 3], dtype=np.int32)), "token_ids is int32, expected int64"),
    "shape of ids": (lambda: bound(ids=np.array([[1, 2, 3]])), "token_ids is"),
    "ids with gaps": (lambda: bound(ids=np.arange(6)[::2]), "contiguous"),
    "lengths below": (lambda: bound(lengths=[1, 1]), "sum the number of tokens, 3"),
    "lengths above": (lambda: bound(lengths=[2, 2]), "sum"),
    "no tokens": (lambda: bound(lengths=[3, 0]), "at least 1"),
    "nothing": (lambda: bound(ids=np.zeros(0, dtype=np.int64), caches=[], lengths=[]), "at least 1"),
    "caches": (lambda: bound(caches=[cache()]), "1 caches for 2 lengths"),
    "same caches": (lambda: bound(caches=[SAME, SAME]), "0 and 1 are the same"),
    "layers": (lambda: bound(caches=[cache(), _native.KVCache(1, KV_HEADS, HEAD_DIM, "float32")]), "1 layers"),
    "heads": (lambda: bound(caches=[cache(), _native.KVCache(LAYERS, 1, HEAD_DIM, "float32")]), "1 key-value heads"),
    "head_dim": (lambda: bound(caches=[cache(), _native.KVCache(LAYERS, KV_HEADS, 8, "float32")]), "heads of 8"),
    "no tables": (lambda: bound(tables=[]), "0 tables, the plan's rope steps read 1"),
    "rows of tables": (lambda: bound(tables=angles(np.arange(2))), r"expected \[3, rotary_dim\]"),
    "odd tables": (lambda: bound(tables=[np.zeros((3, 15), dtype=np.float32)]), "even"),
    "wide tables": (lambda: bound(tables=[np.zeros((3, 18), dtype=np.float32)]), "heads it is for have 16"),
    "dtype of tables": (lambda: bound(tables=[np.zeros((3, 16))]), "tables is float64"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_run_is_refused(what: str) -> None:
    m, (make, message) = model(), WRONG[what]
    with pytest.raises(ValueError, match=message):
        m.plan.bind(*make())
    with pytest.raises(RuntimeError, match="nothing is bound"):
        m.plan.run(_native.Pool(1), 0, 1)
    m.plan.bind(*bound())


def test_steps_that_are_not_there_are_refused() -> None:
    m = model()
    m.plan.bind(*bound())
    for first, last in [(-1, 1), (2, 1), (0, m.n_steps + 1)]:
        with pytest.raises(ValueError, match="steps"):
            m.plan.run(_native.Pool(1), first, last)


UNSOUND: dict[str, tuple[Callable[[_native.Plan, int, int], object], str]] = {
    "no buffer": (lambda p, x, y: p.silu(x, 99), "no buffer 99"),
    "columns": (lambda p, x, y: p.columns(x, 0, 65), "columns 0 to 65"),
    "widths": (lambda p, x, y: p.add(x, p.buffer(8), x), "8 columns"),
    "overlap": (lambda p, x, y: p.silu(p.columns(x, 0, 8), p.columns(x, 4, 12)), "overlaps a part"),
    "linear in place": (lambda p, x, y: p.linear(x, [(square(), None, x)]), "overlaps"),
    "two products in one": (lambda p, x, y: p.linear(x, [(square(), None, y), (square(), None, y)]), "overlaps"),
    "no products": (lambda p, x, y: p.linear(x, []), "no products"),
    "weight": (lambda p, x, y: p.linear(p.buffer(32), [(square(), None, y)]), "x has 32 columns, the weight 64"),
    "out": (lambda p, x, y: p.linear(x, [(square(), None, p.buffer(32))]), "64 rows, out has 32"),
    "bias": (lambda p, x, y: p.linear(x, [(square(), np.zeros(3, dtype=np.float32), y)]), "bias 3"),
    "norm": (lambda p, x, y: p.rmsnorm(x, np.ones(48, dtype=np.float32), 1e-5, x), "multiple"),
    "eps": (lambda p, x, y: p.rmsnorm(x, np.ones(64, dtype=np.float32), -1.0, x), "eps"),
    "cap": (lambda p, x, y: p.softcap(x, 0.0, x), "positive"),
    "rope": (lambda p, x, y: p.rope(x, 0, 48, x), "multiple of head_dim"),
    "table": (lambda p, x, y: p.rope(x, -1, 16, x), "number -1"),
    "window": (lambda p, x, y: p.attention(x, y, p.buffer(64), x, 0, 16, 1.0, -1, 0.0), "window"),
    "softcap": (lambda p, x, y: p.attention(x, y, p.buffer(64), x, 0, 16, 1.0, 0, -1.0), "softcap"),
    "groups": (lambda p, x, y: p.attention(x, p.buffer(48), p.buffer(48), x, 0, 16, 1.0, 0, 0.0), "whole heads"),
    "rows in place": (lambda p, x, y: p.last_rows(x, x), "overlaps"),
    "last rows twice": (lambda p, x, y: [p.last_rows(x, y), p.last_rows(y, x)], "one such step"),
    "rows of tokens": (lambda p, x, y: [p.silu(x, x), p.last_rows(x, y), p.add(x, y, y)], "holds a row a token"),
    "rope after last_rows": (lambda p, x, y: [p.last_rows(x, y), p.rope(y, 0, 16, y)], "not a token's"),
}


def square() -> _native.Weight:
    return _native.Weight("q8_0", 64, 64)


@pytest.mark.parametrize("what", UNSOUND)
def test_a_step_that_makes_no_sense_is_refused(what: str) -> None:
    plan = _native.Plan("int8")
    add, message = UNSOUND[what]
    with pytest.raises(ValueError, match=message):
        add(plan, plan.buffer(64), plan.buffer(64))
