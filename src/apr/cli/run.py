"""`apr run`: one prompt in, text out."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from apr.cli._options import engine_option, json_option, model_argument, threads_option

if TYPE_CHECKING:
    from apr.engines._language_model import Run


@click.command(short_help="One prompt in, text out.")
@model_argument
@click.argument("prompt", required=False)
@click.option("--prompt", "-p", "prompt_option", help="The prompt; else the argument, else standard input.")
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
@click.option(
    "--record", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Keep the run record as JSON."
)
@click.option("--quiet", "-q", "verbosity", flag_value="quiet", default="normal", help="Nothing on stderr but errors.")
@json_option
def command(
    model: str,
    prompt: str | None,
    prompt_option: str | None,
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
    record: Path | None,
    verbosity: str,
    as_json: bool,
) -> int:
    """Write text with MODEL: a path, an alias such as smollm2, or a URL.

    The prompt goes through the model's own chat template if it has one; --raw continues it as it is. Ctrl-C ends the
    text and keeps what there is. One final line break of standard input is not part of the prompt.

    \b
    apr run smollm2 --prompt "def fib(n):" --max-tokens 128
    apr run qwen2.5-coder:0.5b "Reverse a list in Python" --temperature 0.7 --seed 1
    echo "Once upon a time" | apr run smollm2 --raw
    apr run smollm2 "Hello" --json | jq .timings
    """
    from apr.cli._model import loaded
    from apr.engines._sampling import Sampling

    text = _prompt(prompt, prompt_option)
    sampling = Sampling(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty, seed=seed
    )
    with loaded(model, engine=engine, threads=threads, verbosity=verbosity) as language_model:  # type: ignore[arg-type]
        run = language_model.run(
            text,
            max_tokens=max_tokens,
            regime=regime or "auto",  # type: ignore[arg-type]
            system=system,
            control=control,  # type: ignore[arg-type]
            sampling=sampling,
            stop=stop,
            at_eos=at_eos,  # type: ignore[arg-type]
        )
        return _finish(run, record=record, verbosity=verbosity, output="json" if as_json else "stream")


def _prompt(argument: str | None, option: str | None) -> str:
    """The prompt, from wherever it was given. Raises click.UsageError if it is missing, given twice, or no text."""
    context = click.get_current_context()
    if argument is not None and option is not None:
        raise click.UsageError("the prompt is given twice, as an argument and with --prompt; leave one out", context)
    text = option if option is not None else argument
    if text is None:
        if sys.stdin.isatty():
            raise click.UsageError(
                'no prompt: give it as an argument (apr run MODEL "…"), with --prompt, or on standard input', context
            )
        try:
            text = sys.stdin.read().removesuffix("\n")  # the line break that echo adds is nobody's prompt
        except UnicodeDecodeError as exc:
            raise click.UsageError(f"standard input is not UTF-8: {exc}", context) from exc
    if not text.strip():
        raise click.UsageError("the prompt is empty; give it some text", context)
    if any("\ud800" <= character <= "\udfff" for character in text):  # how Python passes on bytes that are no text
        raise click.UsageError("the prompt is not UTF-8; check the terminal's encoding (LANG)", context)
    return text


def _finish(run: Run, *, record: Path | None, verbosity: str, output: Literal["stream", "json"]) -> int:
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
