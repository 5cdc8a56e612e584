"""Replay section 61 of SPEC-SHIP-TWO-001: its prompts, its two predictions, the margins it did not measure, its two faults.

python examples/section-61/replay.py                      qwen2.5-coder:0.5b, some minutes
python examples/section-61/replay.py --model smollm2      135M, about a minute
python examples/section-61/replay.py --json
python examples/section-61/replay.py --markdown docs/section-61.md
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
from curves import measure
from experiment import APR, GGUF, LLAMA, run_all
from faults import wrong_gate, wrong_positions
from page import render
from result import Result

from apr.convert import convert
from apr.engines._subject import Subject
from apr.errors import AprError, UsageError
from apr.reports import json


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, print it; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        result = replay(options)
    except AprError as exc:
        click.echo(f"replay: {exc}", err=True)
        return exc.exit_code
    if options.markdown:
        options.markdown.write_text(render(result, story="told"), encoding="utf-8")
    click.echo(json.dumps(result) if options.json else render(result, story="left out"))
    return result.exit_code


def replay(options: argparse.Namespace) -> Result:
    """The experiment. Raises AprError."""
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        Subject(options.model, threads=options.threads) as gguf,
    ):
        if gguf.template is None:
            raise UsageError(f"{options.model} has no chat template; the replay is about one: choose an instruct model")
        copy = Path(folder) / "copy.apr"
        _say(f"converting {options.model} to .apr")
        convert(gguf.path, copy, dequantize="f32")
        with Subject(copy, threads=options.threads) as apr_copy:
            llama = gguf.on_engine("llama-cpp")
            subjects = {GGUF: gguf, APR: apr_copy, LLAMA: llama}
            _say("asking each question of each subject")
            runs = run_all(subjects, max_tokens=options.max_tokens)
            _say("measuring margins and drift")
            candidates = {
                "8-bit activations": gguf.on_engine(gguf.engine, activations="int8"),
                LLAMA: llama,
                APR: apr_copy,
            }
            curves = measure(gguf, candidates, n_prompts=options.prompts, n_steps=options.steps)
        _say("planting the two faults")
        gate = wrong_gate(gguf, curves, max_tokens=options.max_tokens)
        positions = wrong_positions(gguf, Path(folder))
    named = "" if options.model == _parser().get_default("model") else f" --model {Path(options.model).name}"
    return Result(
        model=Path(options.model).name,
        command=f"`python examples/section-61/replay.py{named}`",
        machine=f"{platform.machine()}, {options.threads or os.cpu_count()} threads",
        runs=runs,
        curves=curves,
        gate=gate,
        positions=positions,
        seconds=time.perf_counter() - started,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen2.5-coder:0.5b", help="a GGUF file or an alias")
    parser.add_argument("--max-tokens", type=int, default=48, help="of each answer")
    parser.add_argument("--steps", type=int, default=32, help="of each prompt whose margins are measured")
    parser.add_argument("--prompts", type=int, default=6, help="of each kind, at most 6")
    parser.add_argument("--threads", type=int, help="of the arithmetic; all cores if not given")
    parser.add_argument("--folder", type=Path, help="for the .apr copy (2 GB for the 0.5B), deleted afterwards")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page, too")
    return parser


def _say(what: str) -> None:
    click.echo(f"replay: {what}", err=True)


if __name__ == "__main__":
    sys.exit(main())
