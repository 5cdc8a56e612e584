"""How long does it take to quantise a whole file, beside llama.cpp's own tool, from start to a file on the disk?

A model in float32 is made once of --model. Each round runs `apr convert --quantize` and `llama_model_quantize` of llama-cpp-python (--peers) as
processes of their own, in turns, on all cores. The tensors of both files must be the same bytes. Ours reads back what it wrote besides.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import _models
from _contest import say
from _options import PEERS
from _results import Results

from apr.bench import _machine
from apr.bench._rounds import Segment, in_turns
from apr.convert._mixture import MIXTURES
from apr.formats import open_model

_TOOL = """
import sys, llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = int(sys.argv[3])
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), params))
"""
_DEFAULT = ("q8_0", "q4_0", "q4_k_m", "q6_k")


def main() -> None:
    """Measure what the command line asks for."""
    given = _parsed()
    results = Results("quantize_file")
    with tempfile.TemporaryDirectory(prefix="apr-bench-") as folder:
        source, ours, theirs = (Path(folder) / name for name in ("source.gguf", "ours.gguf", "theirs.gguf"))
        _run(_convert(_models.resolve(given.model).path, source, "f32"))
        for mixture in given.mixture or _DEFAULT:
            command = [str(given.peers), "-c", _TOOL, str(source), str(theirs), str(MIXTURES[mixture].file_type)]
            entries = {"apr": _timed(_convert(source, ours, mixture)), "llama.cpp": _timed(command)}
            segments = in_turns(entries, rounds=given.rounds)
            _check_equal(ours, theirs, mixture)
            medians, ratio_to = results.add_duel("whole file", mixture, "s", segments, model_file=given.model)
            say(
                f"{mixture}: {medians['apr']:.2f} s, llama.cpp {medians['llama.cpp']:.2f} s, {ratio_to['median']:.1f} times as fast"
            )


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", metavar="PATH|ALIAS", help="(default: %(default)s)")
    parser.add_argument(
        "--peers", type=Path, default=PEERS, metavar="PYTHON", help="interpreter with the peers installed"
    )
    parser.add_argument("--mixture", action="append", choices=tuple(MIXTURES), help="may be repeated")
    parser.add_argument("--rounds", type=int, default=6, help="of each contest (default: %(default)s)")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    return given


def _convert(source: Path, target: Path, mixture: str) -> list[str]:
    return [sys.executable, "-m", "apr", "convert", str(source), "-o", str(target), "--quantize", mixture, "--force"]


def _run(command: list[str]) -> None:
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(command[:4])} ended with status {ended.returncode}: {ended.stderr[-500:]}")


def _timed(command: list[str]) -> Callable[[], Segment]:
    """A segment: seconds of a process."""

    def segment() -> Segment:
        watch = _machine.Watch(())
        started = time.perf_counter()
        _run(command)
        return Segment(time.perf_counter() - started, {}, watch.others())

    return segment


def _check_equal(ours: Path, theirs: Path, mixture: str) -> None:
    with open_model(ours) as one, open_model(theirs) as other:
        same = one.tensors.keys() == other.tensors.keys() and all(
            one.tensors[name].codec == other.tensors[name].codec
            and one.raw(name).tobytes() == other.raw(name).tobytes()
            for name in one.tensors
        )
    if not same:
        raise SystemExit(f"{mixture}: not the bytes of llama.cpp; a fast wrong answer is not a number")


if __name__ == "__main__":
    main()
