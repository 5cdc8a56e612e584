"""The compiled kernels' threads, and weights as they lie in memory."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from apr.kernels import _native

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 64)).astype(np.float32)
ROWS = 1000


def q8_0(rows: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random blocks, as the bytes of a file and decoded to float32 [rows, columns]."""
    rng = np.random.default_rng(seed)
    quants = rng.integers(-127, 128, (rows, columns // 32, 32), dtype=np.int8)
    scales = rng.uniform(0.001, 0.01, (rows, columns // 32, 1)).astype(np.float16)
    raw = np.concatenate([scales.view(np.uint8), quants.view(np.uint8)], axis=2).reshape(-1)
    return raw, (scales.astype(np.float32) * quants).reshape(rows, columns)


def weight(rows: int = ROWS, columns: int = 64) -> _native.Weight:
    w = _native.Weight("q8_0", rows, columns)
    w.fill(q8_0(rows, columns)[0], 0, rows, None)
    return w


def product(pool: _native.Pool, w: _native.Weight) -> np.ndarray:
    return _native.linear(pool, X, w, None, "int8")


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_results_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    w, pool = weight(), _native.Pool(threads)
    assert pool.threads == threads
    expected = product(_native.Pool(1), w)
    for _ in range(200):
        np.testing.assert_array_equal(product(pool, w), expected)


@pytest.mark.parametrize("threads", [-1, 0, 1025])
def test_a_pool_without_threads_is_refused(threads: int) -> None:
    with pytest.raises(ValueError, match="threads"):
        _native.Pool(threads)


def test_several_callers_may_share_a_pool() -> None:
    w, pool = weight(), _native.Pool(3)
    expected = product(pool, w)
    wrong: list[int] = []

    def call() -> None:
        for i in range(100):
            if not np.array_equal(product(pool, w), expected):
                wrong.append(i)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


def test_pools_come_and_go() -> None:
    w = weight()
    expected = product(_native.Pool(1), w)
    for i in range(60):
        pool = _native.Pool(2 + i % 3)
        np.testing.assert_array_equal(product(pool, w), expected)
        del pool


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_idle_threads_sleep() -> None:
    before = _threads()
    pool = _native.Pool(4)
    ours = _threads() - before
    assert len(ours) == 3
    product(pool, weight())
    # a thread that sleeps is given up by the processor once and then never again
    still, previous = 0, ""
    for _ in range(200_000):
        now = "".join(_switches(thread) for thread in sorted(ours))
        still = still + 1 if now == previous else 0
        previous = now
        if still > 200 and all(_state(thread) == "S" for thread in ours):
            return
    raise AssertionError("a thread is still at work")


def _threads() -> set[str]:
    return {task.name for task in Path("/proc/self/task").iterdir()}


def _state(thread: str) -> str:
    return Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[0]


def _switches(thread: str) -> str:
    lines = Path(f"/proc/self/task/{thread}/status").read_text().splitlines()
    return "".join(line for line in lines if "ctxt_switches" in line)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_gets_its_own_threads() -> None:
    w, pool = weight(), _native.Pool(3)
    expected = product(pool, w)
    child = os.fork()
    if child == 0:
        is_right = all(np.array_equal(product(pool, w), expected) for _ in range(50))
        del pool
        os._exit(0 if is_right else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(product(pool, w), expected)


def test_rows_are_filled_in_parts_and_in_another_order() -> None:
    raw, decoded = q8_0(50, 64)
    whole, parts, turned = (_native.Weight("q8_0", 50, 64) for _ in range(3))
    whole.fill(raw, 0, 50, None)
    parts.fill(raw, 32, 18, None)
    parts.fill(raw, 0, 32, None)
    order = np.random.default_rng(1).permutation(50)
    turned.fill(raw, 0, 50, order)
    rows = np.arange(50)
    np.testing.assert_array_equal(whole.decode(rows), decoded)
    np.testing.assert_array_equal(parts.decode(rows), decoded)
    np.testing.assert_array_equal(turned.decode(rows), decoded[order])
    assert whole.n_bytes == 64 * 64 // 32 * 34  # rows are padded to whole row blocks


@pytest.mark.parametrize(
    ("first", "n", "message"),
    [(8, 16, "begin at"), (0, 24, "end at"), (48, 18, "end at"), (-16, 16, "begin at"), (1 << 62, 1 << 62, "begin")],
)
def test_rows_that_cut_a_row_block_are_refused(first: int, n: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _native.Weight("q8_0", 50, 64).fill(q8_0(50, 64)[0], first, n, None)


def test_a_row_order_outside_the_tensor_is_refused() -> None:
    raw, _ = q8_0(16, 64)
    order = np.arange(16)
    order[3] = 16
    with pytest.raises(ValueError, match=r"row_order\[3\] is 16, the tensor has 16 rows"):
        _native.Weight("q8_0", 16, 64).fill(raw, 0, 16, order)


@pytest.mark.parametrize(
    ("codec", "columns", "message"),
    [("q8_0", 33, "multiple of 32"), ("q4_k", 128, "multiple of 256"), ("f32", 0, "positive"), ("iq1_s", 256, "q4_k")],
)
def test_what_no_kernel_reads_is_refused(codec: str, columns: int, message: str) -> None:
    for refuse in (_native.Weight.row_bytes, lambda c, n: _native.Weight(c, 16, n)):
        with pytest.raises(ValueError, match=message):
            refuse(codec, columns)


def test_a_wrong_number_of_bytes_is_refused() -> None:
    raw = np.zeros(16 * 4 - 1, dtype=np.uint8)
    with pytest.raises(ValueError, match=r"63 bytes for a f32 tensor \[4, 4\], expected 64"):
        _native.Weight.in_place("f32", 4, 4, raw)
    with pytest.raises(ValueError, match="63 bytes"):
        _native.Table("f32", 4, 4, raw)
    with pytest.raises(ValueError, match="re-laid"):
        _native.Weight.in_place("q8_0", 1, 32, np.zeros(34, dtype=np.uint8))


def test_bytes_in_place_are_kept_alive_and_may_be_read_only() -> None:
    values = RNG.standard_normal((20, 24)).astype(np.float32)
    raw = values.reshape(-1).view(np.uint8).copy()
    raw.flags.writeable = False
    references = sys.getrefcount(raw)
    w = _native.Weight.in_place("f32", 20, 24, raw)
    assert sys.getrefcount(raw) > references
    assert w.n_bytes == 0
    np.testing.assert_array_equal(w.decode(np.array([19, 0])), values[[19, 0]])
    del w
    gc.collect()
    assert sys.getrefcount(raw) == references


def test_other_dtypes_are_refused_by_name() -> None:
    pool, w = _native.Pool(1), weight()
    with pytest.raises(ValueError, match="x is float64, expected float32"):
        _native.linear(pool, X.astype(np.float64), w, None, "int8")
    with pytest.raises(ValueError, match="x is not C-contiguous"):
        _native.linear(pool, np.asfortranarray(X), w, None, "int8")
    with pytest.raises(ValueError, match=r"x is \[3, 32\], expected \[any, 64\]"):
        _native.linear(pool, X[:, :32].copy(), w, None, "int8")
    with pytest.raises(ValueError, match="activations 'int4'"):
        _native.linear(pool, X, w, None, "int4")


def test_instruction_sets_read_the_same_weights() -> None:
    w, pool, used = weight(), _native.Pool(2), _native.instruction_set()
    names = _native.instruction_sets()
    assert used == os.environ.get("APR_ISA", names[0]) and names[-1] == "portable"
    expected = X @ q8_0(ROWS, 64)[1].T
    try:
        for name in names:
            _native.use_instruction_set(name)
            assert _native.instruction_set() == name
            np.testing.assert_allclose(_native.linear(pool, X, w, None, "float32"), expected, atol=1e-4)
    finally:
        _native.use_instruction_set(used)
    with pytest.raises(ValueError, match="portable"):
        _native.use_instruction_set("mmx")


def test_a_cache_starts_empty_and_its_sizes_are_checked() -> None:
    cache = _native.KVCache(2, 3, 8, "float16")
    assert (cache.length, cache.n_bytes) == (0, 0)
    with pytest.raises(ValueError, match="holds 0"):
        cache.truncate(1)
    with pytest.raises(ValueError, match="bfloat16"):
        _native.KVCache(2, 3, 8, "bfloat16")
    for sizes in [(0, 3, 8), (2, -1, 8), (2, 3, 1 << 30)]:
        with pytest.raises(ValueError, match="each must be 1 to 65536"):
            _native.KVCache(*sizes, "float16")


def test_read_bandwidth_has_a_figure_for_each_repeat() -> None:
    figures = _native.read_bandwidth(_native.Pool(2), 8 << 20, 3)
    assert len(figures) == 3 and min(figures) > 0
    with pytest.raises(ValueError, match="at least 1"):
        _native.read_bandwidth(_native.Pool(1), 0, 3)
