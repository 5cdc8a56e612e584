"""How near is each codec's product to the speed of a plain read, and how fast is it when memory is no limit?

For every codec and instruction set but "portable", which is there for correctness: a vector from memory (GB/s of weight bytes, and the fraction of a plain read
measured beside it), a vector from cache (the ceiling), and 512 tokens (GFLOP/s, beside NumPy's float32 product).
The weights are random bits with finite scales: no kernel's speed depends on their values.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import _options
import numpy as np
import threadpoolctl
from _contest import say
from _options import Options
from _results import Results

from apr.bench import _machine
from apr.bench._rounds import Segment, in_turns
from apr.kernels import _native, quants

BLOCK_CODECS = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k")
PLAIN_CODECS = ("f16", "bf16", "f32")
CASES = ("memory", "cache", "tokens")
# rows x columns, and whose: K-quants need columns in multiples of 256
SHAPES = {32: ((4864, 896), "qwen2-0.5b gate_proj"), 256: ((896, 4864), "qwen2-0.5b down_proj")}
N_TOKENS = 512
MIN_WORKING_SET = 160_000_000
MIN_SECONDS = 0.02  # of a segment in cache
# relative error of 8-bit activations, measured 0.5 to 1.3 percent; float32 sums in another order
ERROR_LIMITS = {"int8": 2e-2, "float32": 1e-5}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is multiplied: a codec, a shape, an instruction set and how activations are held."""

    codec: str
    rows: int
    columns: int
    instruction_set: str
    activations: str

    @property
    def n_bytes(self) -> int:
        """Of the weight, as a file has it."""
        return self.rows * _native.Weight.row_bytes(self.codec, self.columns)


def main() -> None:
    """Measure what the command line asks for."""
    options = _options.parse(__doc__ or "", cases=CASES, models=())
    results = Results("kernels")
    measures = {"memory": from_memory, "cache": from_cache, "tokens": many_tokens}
    for name in _native.instruction_sets()[:-1] or ["portable"]:
        _native.use_instruction_set(name)
        for codec in BLOCK_CODECS + PLAIN_CODECS:
            (rows, columns), where = SHAPES[256 if quants.codec(codec).block_size == 256 else 32]
            for activations in ("int8", "float32"):
                if codec in PLAIN_CODECS and activations == "int8":
                    continue  # their products are exact in both modes
                subject = Subject(codec, rows, columns, name, activations)
                error = check(subject)
                for case in options.cases:
                    measures[case](results, options, subject, where, error)


def random_bits(n_bytes: int, seed: int = 1) -> np.ndarray:
    """uint8 [n_bytes]: weights of any codec with finite scales below 2.

    Every float in every codec begins at an even byte and is little-endian, so clearing a bit of the odd bytes clears
    the top of all exponents.
    """
    bits = np.random.default_rng(seed).integers(0, 256, n_bytes, dtype=np.uint8)
    bits[1::2] &= 0xBF
    return bits


def weight_of(subject: Subject, raw: np.ndarray) -> _native.Weight:
    """The weight as the kernels read it."""
    if subject.codec in PLAIN_CODECS:
        return _native.Weight.in_place(subject.codec, subject.rows, subject.columns, raw)
    weight = _native.Weight(subject.codec, subject.rows, subject.columns)
    weight.fill(raw, 0, subject.rows, None)
    return weight


def check(subject: Subject) -> float:
    """The product's error against a float64 one, relative to the root mean square. Exits if it is more than rounding."""
    raw = random_bits(subject.n_bytes)
    x = np.random.default_rng(2).standard_normal((11, subject.columns), dtype=np.float32)
    found = _native.linear(_native.Pool(2), x, weight_of(subject, raw), None, subject.activations)
    decoded = quants.codec(subject.codec).decode(raw, (subject.rows, subject.columns)).astype(np.float64)
    expected = x.astype(np.float64) @ decoded.T
    error = float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))
    if not error <= ERROR_LIMITS[subject.activations]:
        raise SystemExit(f"{subject}: relative error {error:.3g}; a fast wrong answer is not a number")
    return error


def from_memory(results: Results, options: Options, subject: Subject, where: str, error: float) -> None:
    """One token, weights from memory: copies that no cache holds, one after the other."""
    working_set = max(MIN_WORKING_SET, 2 * _machine.cache_bytes(3))
    n_copies = math.ceil(working_set / subject.n_bytes)
    raw = random_bits(subject.n_bytes)
    # weights that are read in place need bytes of their own
    weights = [weight_of(subject, raw.copy()) for _ in range(n_copies)]
    x = np.random.default_rng(3).standard_normal((1, subject.columns), dtype=np.float32)
    for threads in dict.fromkeys((options.threads, 1)):
        pool = _native.Pool(threads)
        entry = timed(pool, x, weights, subject.activations, per_pass=n_copies * subject.n_bytes / 1e9)
        entries = {"apr": entry, "plain read": plain_read(pool, working_set)}
        segments = in_turns(entries, rounds=options.rounds)
        add(results, "memory", "GB/s", segments["apr"], subject, where, error, threads=threads,
            beside=segments["plain read"], working_set_bytes=n_copies * subject.n_bytes)  # fmt: skip


def from_cache(results: Results, options: Options, subject: Subject, where: str, error: float) -> None:
    """One token, weights in one core's second-level cache: what the kernel would do if memory were no limit."""
    room = min(_machine.cache_bytes(2) or 1 << 20, 1 << 21) // 3
    rows = max(16, room // (subject.n_bytes // subject.rows) // 16 * 16)
    small = Subject(subject.codec, rows, subject.columns, subject.instruction_set, subject.activations)
    weight = weight_of(small, random_bits(small.n_bytes))
    x = np.random.default_rng(3).standard_normal((1, small.columns), dtype=np.float32)
    n_passes = max(1, int(MIN_SECONDS * 10e9 / small.n_bytes))
    entry = timed(_native.Pool(1), x, [weight] * n_passes, small.activations, per_pass=n_passes * small.n_bytes / 1e9)
    segments = in_turns({"apr": entry}, rounds=options.rounds)
    add(results, "cache", "GB/s", segments["apr"], small, where, error, threads=1)


def many_tokens(results: Results, options: Options, subject: Subject, where: str, error: float) -> None:
    """512 tokens, beside NumPy's product of the same shape with weights that are float32 already."""
    raw = random_bits(subject.n_bytes)
    weight = weight_of(subject, raw)
    x = np.random.default_rng(3).standard_normal((N_TOKENS, subject.columns), dtype=np.float32)
    decoded = quants.codec(subject.codec).decode(raw, (subject.rows, subject.columns))
    gflop = 2 * N_TOKENS * subject.rows * subject.columns / 1e9
    for threads in dict.fromkeys((options.threads, 1)):
        entries = {
            "apr": timed(_native.Pool(threads), x, [weight], subject.activations, per_pass=gflop),
            "numpy float32": numpy_product(x, decoded, threads, gflop),
        }
        segments = in_turns(entries, rounds=options.rounds)
        add(results, "tokens", "GFLOP/s", segments["apr"], subject, where, error, threads=threads,
            beside=segments["numpy float32"], n_tokens=N_TOKENS)  # fmt: skip


def timed(
    pool: _native.Pool, x: np.ndarray, weights: Sequence[_native.Weight], activations: str, *, per_pass: float
) -> Callable[[], Segment]:
    """A segment: x times each weight; its figure is `per_pass` over the seconds."""

    def segment() -> Segment:
        watch = _machine.Watch(())
        started = time.perf_counter()
        for weight in weights:
            _native.linear(pool, x, weight, None, activations)
        return Segment(per_pass / (time.perf_counter() - started), {}, watch.others())

    return segment


def plain_read(pool: _native.Pool, n_bytes: int) -> Callable[[], Segment]:
    """A segment: GB/s of a read of so many bytes that does nothing with them."""

    def segment() -> Segment:
        watch = _machine.Watch(())
        return Segment(_native.read_bandwidth(pool, n_bytes, 1)[0], {}, watch.others())

    return segment


def numpy_product(x: np.ndarray, decoded: np.ndarray, threads: int, gflop: float) -> Callable[[], Segment]:
    """A segment: the same product by NumPy's BLAS."""
    controller = threadpoolctl.ThreadpoolController()

    def segment() -> Segment:
        watch = _machine.Watch(())
        with controller.limit(limits=threads, user_api="blas"):
            started = time.perf_counter()
            x @ decoded.T
            seconds = time.perf_counter() - started
        return Segment(gflop / seconds, {}, watch.others())

    return segment


def add(
    results: Results,
    case: str,
    unit: str,
    segments: Sequence[Segment],
    subject: Subject,
    where: str,
    error: float,
    *,
    threads: int,
    beside: Sequence[Segment] = (),
    **more: object,
) -> None:
    """Write a row; its fractions are the ratios to what was measured beside it."""
    values = [segment.value for segment in segments]
    others = [segment.others_cores for segment in segments]
    name = f"{subject.codec} {subject.instruction_set} {subject.activations}"
    say(f"{case}, {_options.in_words(threads)}, {name}: {statistics.median(values):.4g} {unit}")
    results.add(
        f"{case}, {_options.in_words(threads)}",
        name,
        unit,
        values,
        codec=subject.codec,
        instruction_set=subject.instruction_set,
        activations=subject.activations,
        shape=[subject.rows, subject.columns],
        shape_of=where,
        threads=threads,
        relative_error=error,
        fractions=[value / other.value for value, other in zip(values, beside, strict=True)] if beside else [],
        others_cores=others,
        busy_rounds=sum(map(_machine.is_busy, others)),
        **more,
    )


if __name__ == "__main__":
    main()
