"""The loop of every fuzz target: guided by coverage where atheris is installed, else mutations at random.

python tests/fuzz/fuzz_gguf.py --seconds 60 --seed 1
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Target(NamedTuple):
    """A reader under test.

    check:   reads one input in a scratch folder; True if it was accepted. Raises whatever the reader must not raise.
    mutate:  one random edit of an input
    seeds:   inputs to start from
    """

    name: str
    check: Callable[[bytes, Path], bool]
    mutate: Callable[[bytes, random.Random], bytes]
    seeds: Callable[[], list[bytes]]


def run(target: Target, *, seed: int, cases: int, seconds: float = float("inf")) -> tuple[int, int]:
    """Check mutated inputs until either limit is reached; the number tried, and the number accepted."""
    dice = random.Random(seed)
    corpus = target.seeds()
    stop = time.monotonic() + seconds
    tried = accepted = 0
    with tempfile.TemporaryDirectory() as folder:
        while tried < cases and time.monotonic() < stop:
            raw = target.mutate(dice.choice(corpus), dice)
            try:
                accepted += target.check(raw, Path(folder))
            except BaseException:
                print(f"{target.name}: seed {seed}, case {tried}: {raw.hex()}", file=sys.stderr)
                raise
            tried += 1
    return tried, accepted


def main(target: Target) -> None:
    """The command line of a target."""
    parser = argparse.ArgumentParser(description=f"Fuzz the {target.name} reader")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options, rest = parser.parse_known_args()
    try:
        import atheris
    except ImportError:
        tried, accepted = run(target, seed=options.seed, cases=sys.maxsize, seconds=options.seconds)
        print(f"{target.name}: {tried} files, {accepted} accepted, no finding")
        return
    atheris.instrument_all()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for i, content in enumerate(target.seeds()):
            (corpus / str(i)).write_bytes(content)
        arguments = [
            sys.argv[0],
            f"-max_total_time={int(options.seconds)}",
            f"-seed={options.seed}",
            *rest,
            str(corpus),
        ]
        atheris.Setup(arguments, lambda raw: bool(target.check(raw, Path(folder))) and None)
        atheris.Fuzz()
