"""How much faster are our encoders than llama.cpp's, on the same tensor and writing the same bytes?

For every type that both write, with and without an importance: `ggml_quantize_chunk` of the prebuilt xllamacpp library,
which is what llama.cpp's own tool calls on each thread's rows, and our compiled kernels, in turns, one thread each and two.
llama.cpp compiles this part for any processor of the family, so a build made for this one is no faster.
GB/s of float32 read.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _models
import _options
import numpy as np
from _contest import say
from _results import Results

from apr.bench import _machine
from apr.bench._rounds import Segment, in_turns
from apr.kernels import _native

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import ggml_oracle

TENSOR = "blk.15.ffn_down.weight"  # of smollm2, 576 x 1536; repeated until it takes a while
MIN_BYTES = 16 << 20
NO_IMPORTANCE = ("q8_0",)


def main() -> None:
    """Measure what the command line asks for."""
    given = _parsed()
    model = _models.resolve(given.model)
    values = _tensor(model, given.tensor, given.min_bytes)
    importance = np.random.default_rng(1).random(values.shape[1], dtype=np.float32)
    results = Results("quantize")
    best = _native.instruction_sets()[0]
    for instruction_set in _native.instruction_sets()[:-1] if given.all_sets else [best]:
        _native.use_instruction_set(instruction_set)
        for codec in given.codec or ggml_oracle.CODECS:
            for weights in (None, importance)[: 1 if codec in NO_IMPORTANCE else 2]:
                _contest(results, given, codec, values, weights, instruction_set)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", metavar="PATH|ALIAS", help="(default: %(default)s)")
    parser.add_argument(
        "--tensor", default=TENSOR, help="a matrix of it, by its name in the file (default: %(default)s)"
    )
    parser.add_argument("--codec", action="append", choices=ggml_oracle.CODECS, help="may be repeated; default: all")
    parser.add_argument("--rounds", type=int, default=10, help="of each contest (default: %(default)s)")
    parser.add_argument("--threads", type=int, action="append", help="may be repeated; default: 1 and 2")
    parser.add_argument("--min-bytes", type=int, default=MIN_BYTES, help="the tensor is repeated up to this size")
    parser.add_argument("--all-sets", action="store_true", help="each instruction set, not only the best")
    parser.add_argument("--json", action="store_true", help="one line a contest on stdout")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    return given


def _tensor(model: _models.Model, name: str, min_bytes: int) -> np.ndarray:
    """float32 [rows, columns]: the tensor, in rows of whole blocks of every codec, repeated."""
    values = model.checkpoint.file.array(name).astype(np.float32)
    if values.shape[-1] % 256:
        values = values.reshape(-1, 256)
    return np.ascontiguousarray(np.tile(values, (max(1, -(-min_bytes // values.nbytes)), 1)))


def _contest(
    results: Results,
    given: argparse.Namespace,
    codec: str,
    values: np.ndarray,
    weights: np.ndarray | None,
    instruction_set: str,
) -> None:
    """Ours and theirs in turns, on each number of threads; the bytes must be equal."""
    raw, is_held = _native.encode(_native.Pool(2), codec, values, weights)
    if not is_held or not np.array_equal(raw, ggml_oracle.quantise(codec, values, weights)):
        raise SystemExit(f"{codec}: not the bytes of llama.cpp; a fast wrong answer is not a number")
    kind = "plain" if weights is None else "importance"
    for threads in given.threads or (1, 2):
        entries = {
            "apr": _ours(codec, values, weights, threads),
            "llama.cpp": _theirs(codec, values, weights, threads),
        }
        segments = in_turns(entries, rounds=given.rounds)
        about = {
            "codec": codec, "importance": weights is not None, "threads": threads, "shape": list(values.shape),
            "tensor": given.tensor, "model_file": given.model, "instruction_set": instruction_set,
        }  # fmt: skip
        case = f"{kind}, {_options.in_words(threads)}"
        medians, ratio_to = results.add_duel(case, codec, "GB/s", segments, **about)
        say(
            f"{codec} {kind}, {_options.in_words(threads)}, {instruction_set}: {medians['apr']:.3f} GB/s, "
            f"llama.cpp {medians['llama.cpp']:.4f} GB/s, {ratio_to['median']:.1f} times"
        )
        if given.json:
            print(json.dumps({**about, "gb_per_s": medians, "ratio": ratio_to}), flush=True)


def _ours(codec: str, values: np.ndarray, weights: np.ndarray | None, threads: int) -> Callable[[], Segment]:
    pool = _native.Pool(threads)
    return _timed(values.nbytes, lambda: _native.encode(pool, codec, values, weights))


def _theirs(codec: str, values: np.ndarray, weights: np.ndarray | None, threads: int) -> Callable[[], Segment]:
    if threads == 1:
        return _timed(values.nbytes, lambda: ggml_oracle.quantise(codec, values, weights))
    parts = np.array_split(values, threads)
    pool = ThreadPoolExecutor(threads)  # a call into the library holds no interpreter lock
    return _timed(values.nbytes, lambda: list(pool.map(lambda part: ggml_oracle.quantise(codec, part, weights), parts)))


def _timed(n_bytes: int, work: Callable[[], object]) -> Callable[[], Segment]:
    """A segment: GB/s of float32 that went in."""

    def segment() -> Segment:
        watch = _machine.Watch(())
        started = time.perf_counter()
        work()
        return Segment(n_bytes / 1e9 / (time.perf_counter() - started), {}, watch.others())

    return segment


if __name__ == "__main__":
    main()
