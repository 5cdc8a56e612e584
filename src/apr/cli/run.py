"""`apr run`: a prompt in, text out; or a file of prompts."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from apr.cli import _prompts
from apr.cli._options import engine_option, exact_option, json_option, subject_argument, threads_option
from apr.errors import UsageError

if TYPE_CHECKING:
    from apr.cli._progress import Verbosity
    from apr.engines._base import Activations
    from apr.engines._language_model import LanguageModel, Run

Output = Literal["stream", "json"]


@click.command(short_help="A prompt in, text out.")
@subject_argument
@click.argument("prompt", required=False)
@click.option("--prompt", "-p", "prompt_option", help="The prompt; else the argument, else standard input.")
@click.option(
    "--prompts",
    "prompts_file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help='Many prompts: JSON lines of {"prompt": …} or {"messages": …}, with an "id" if you like; - is standard input.',
)
@click.option(
    "--batch-size", type=click.IntRange(1, 1024), help="Prompts of --prompts computed together.  [default: 8]"
)
@click.option(
    "--max-tokens", "-n", type=click.IntRange(1), default=256, show_default=True, help="Stop after so many tokens."
)
@click.option("--raw", "regime", flag_value="raw", help="Continue the prompt as it is; no chat template.")
@click.option("--chat", "regime", flag_value="chat", help="Insist on the chat template.")
@click.option("--system", help="A system message for the chat template.")
@click.option(
    "--special", "control", flag_value="token", default="text", help="Control tokens written in the prompt are tokens."
)
@click.option("--temperature", "-t", type=float, default=0.0, show_default=True, help="0 is greedy.")
@click.option("--top-k", type=int, default=0, help="Keep the k most likely tokens; 0 keeps all.")
@click.option("--top-p", type=float, default=1.0, help="Keep the most likely tokens that together reach p.")
@click.option(
    "--min-p", type=float, default=0.0, help="Keep tokens at least so many times as likely as the most likely."
)
@click.option("--repetition-penalty", type=float, default=1.0, help="Above 1 makes tokens seen so far less likely.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random draws.")
@click.option("--stop", multiple=True, metavar="TEXT", help="Stop where the text would hold this; may be repeated.")
@click.option("--ignore-eos", "at_eos", flag_value="ignore", default="stop", help="Go on past the model's own end.")
@threads_option
@engine_option
@exact_option
@click.option(
    "--record", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Keep the run record as JSON."
)
@click.option("--quiet", "-q", "verbosity", flag_value="quiet", default="normal", help="Nothing on stderr but errors.")
@json_option
def command(
    model: str,
    prompt: str | None,
    prompt_option: str | None,
    prompts_file: Path | None,
    batch_size: int | None,
    max_tokens: int,
    regime: str | None,
    system: str | None,
    control: str,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    seed: int,
    stop: tuple[str, ...],
    at_eos: str,
    threads: int | None,
    engine: str,
    activations: Activations,
    record: Path | None,
    verbosity: Verbosity,
    as_json: bool,
) -> int:
    """Write text with MODEL: a path, an alias such as smollm2, or a URL, with @ENGINE if another engine than ours shall
    run it.

    The prompt goes through the model's own chat template if it has one; --raw continues it as it is. Ctrl-C ends the
    text and keeps what there is. One final line break of standard input is not part of the prompt.

    With --prompts, each line's text comes under a heading, in the order of the file; with --json, one run record a line.
    All prompts draw from the same seed, and each gets the text that it would get alone.

    \b
    apr run smollm2 --prompt "def fib(n):" --max-tokens 128
    apr run qwen2.5-coder:0.5b "Reverse a list in Python" --temperature 0.7 --seed 1
    echo "Once upon a time" | apr run smollm2 --raw
    apr run smollm2 "Hello" --json | jq .timings
    apr run smollm2 --prompts questions.jsonl --json > answers.jsonl
    """
    from apr.cli._model import loaded
    from apr.engines._sampling import Sampling

    _check_combination(prompt, prompt_option, prompts_file, batch_size, record)
    lines = (
        _prompts.many(prompts_file) if prompts_file else [_prompts.Line("", _prompts.one(prompt, prompt_option), None)]
    )
    options: dict[str, Any] = {
        "max_tokens": max_tokens,
        "regime": regime or "auto",
        "system": system,
        "control": control,
        "sampling": Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed),
        "stop": stop,
        "at_eos": at_eos,
    }
    output: Output = "json" if as_json else "stream"
    with loaded(model, engine=engine, threads=threads, activations=activations, verbosity=verbosity) as language_model:
        runs = [_prepared(language_model, line, options) for line in lines]
        if prompts_file is None:
            return _finish(runs[0], record=record, verbosity=verbosity, output=output)
        return _finish_many(language_model, runs, batch_size=batch_size, verbosity=verbosity, output=output)


def _check_combination(
    prompt: str | None,
    prompt_option: str | None,
    prompts_file: Path | None,
    batch_size: int | None,
    record: Path | None,
) -> None:
    """Raise click.UsageError for options that contradict each other."""
    context = click.get_current_context()
    if prompts_file is None:
        if batch_size is not None:
            raise click.UsageError("--batch-size is for --prompts; a single prompt is computed alone", context)
        return
    if prompt is not None or prompt_option is not None:
        raise click.UsageError("a prompt and --prompts; give one of them", context)
    if record is not None:
        raise click.UsageError("--record keeps one run; with --prompts, --json prints every run's record", context)


def _prepared(model: LanguageModel, line: _prompts.Line, options: dict[str, Any]) -> Run:
    """The run of one prompt. Raises UsageError that names the line of a file of prompts."""
    try:
        if not isinstance(line.prompt, str) and (options["system"] is not None or options["regime"] == "raw"):
            raise UsageError('"messages" are a whole conversation for the chat template; leave out --raw and --system')
        return model.run(line.prompt, prompt_id=line.id, **options)
    except UsageError as exc:
        if not line.where:
            raise
        raise UsageError(f"{line.where}: {exc}") from exc


def _finish(run: Run, *, record: Path | None, verbosity: Verbosity, output: Output) -> int:
    """Generate, show what is asked for, keep the record; the exit code."""
    from apr.cli import INTERRUPTED
    from apr.reports import json, text

    last = ""
    with contextlib.suppress(KeyboardInterrupt):  # what there is, is kept: the finish reason says "interrupted"
        if verbosity != "quiet":
            click.echo(text.template_line(run.prompt), err=True)
        for piece in run:
            if output == "stream":
                click.echo(text.safe_for_terminal(piece) if sys.stdout.isatty() else piece, nl=False)
                sys.stdout.flush()
                last = piece
    if output == "stream" and not last.endswith("\n"):
        click.echo()
    if verbosity != "quiet":
        click.echo(text.speed_line(run.finish_reason, len(run.steps), run.timings()), err=True)
    if record is not None or output == "json":
        kept = run.record()
        if record is not None:
            json.save(kept, record)
        if output == "json":
            click.echo(json.dumps(kept))
    return INTERRUPTED if run.finish_reason == "interrupted" else 0


def _finish_many(
    model: LanguageModel, runs: Sequence[Run], *, batch_size: int | None, verbosity: Verbosity, output: Output
) -> int:
    """Generate from every prompt, show each in the order of the file as soon as it can be; the exit code."""
    from apr.cli import INTERRUPTED
    from apr.engines._language_model import DEFAULT_BATCH_SIZE
    from apr.reports import _batch

    size = batch_size or DEFAULT_BATCH_SIZE
    if verbosity != "quiet":
        click.echo(_batch.prompts_line([run.prompt for run in runs], batch_size=size), err=True)
    show = _Shown(runs, output)
    started = time.perf_counter()
    with contextlib.suppress(KeyboardInterrupt):
        for _ in model.run_together(runs, batch_size=size):
            show.those_that_ended()
    seconds = time.perf_counter() - started
    show.those_that_began()
    if verbosity != "quiet":
        line = _batch.batch_line(
            n_ended=show.n_ended, n_prompts=len(runs), n_tokens=show.n_tokens, seconds=seconds, load_s=model.load_s
        )
        click.echo(line, err=True)
    return 0 if show.n_ended == len(runs) else INTERRUPTED


class _Shown:
    """Texts or records of several runs, in the order of the runs; what has been shown is let go."""

    def __init__(self, runs: Sequence[Run], output: Output) -> None:
        self._left = deque(enumerate(runs, start=1))
        self._output = output
        self.n_ended = 0
        self.n_tokens = 0

    def those_that_ended(self) -> None:
        """Show every run that has ended and follows only such."""
        while self._left and self._left[0][1].finish_reason != "interrupted":
            self._show(*self._left.popleft())

    def those_that_began(self) -> None:
        """Show what there is of the others, after an interruption."""
        for number, run in self._left:
            if run.steps:
                self._show(number, run)

    def _show(self, number: int, run: Run) -> None:
        from apr.reports import _batch, json, text

        is_first = self.n_tokens == 0
        self.n_ended += run.finish_reason != "interrupted"
        self.n_tokens += len(run.steps)
        if self._output == "json":
            click.echo(json.dumps(run.record()))
        else:
            written = text.safe_for_terminal(run.text) if sys.stdout.isatty() else run.text
            name = str(number if run.prompt_id is None else run.prompt_id)
            click.echo(("" if is_first else "\n") + _batch.heading(name))
            click.echo(written, nl=not written.endswith("\n"))
        sys.stdout.flush()
        run.generation.steps.clear()  # thousands of prompts may follow
