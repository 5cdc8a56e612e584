"""`apr qa`: is this model fit to be released? Every gate, each with its own verdict."""

from __future__ import annotations

import json as _json
from pathlib import Path
from typing import Any

import click

from apr.cli._chain import seed_option
from apr.cli._options import complete_model, json_option, subject_argument, threads_option
from apr.errors import UsageError


@click.command(short_help="Is this model fit to be released?")
@subject_argument
@click.option(
    "--profile",
    type=click.Choice(["smoke", "release"]),
    default="smoke",
    show_default=True,
    help="How thorough: seconds, or minutes.",
)
@click.option("--reference", metavar="R", shell_complete=complete_model, help="The original that MODEL was made from.")
@click.option("--only", multiple=True, metavar="GATE", help="Only this gate; may be repeated.")
@click.option(
    "--previous",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="An earlier report (--json) of this model, to compare with.",
)
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the verdicts as JUnit XML too.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the report as one HTML page too.",
)
@threads_option
@seed_option
@json_option
def command(
    model: str,
    profile: str,
    reference: str | None,
    only: tuple[str, ...],
    previous: Path | None,
    junit: Path | None,
    html: Path | None,
    threads: int | None,
    seed: int,
    as_json: bool,
) -> int:
    """Judge MODEL: its file, its tokenizer and template, what it writes, how fast, and, where the original is given or lies
    beside it under the same name, whether it still says the same.

    A gate passes, fails, skips, is undecided, or is in error itself. A skip is no pass: a profile demands how many gates
    must come to a result. A failed gate that blocks makes the exit status 1.

    \b
    apr qa smollm2
    apr qa model.gguf --profile release --reference original/ --html qa.html
    apr qa model.gguf --profile release --previous last.json --json > now.json
    """
    from apr import hub
    from apr.cli import _chain, _progress
    from apr.engines._subject import Subject, parse
    from apr.qa import _reference, gate
    from apr.qa._judged import Judged
    from apr.reports import _gates, json
    from apr.reports import html as pages
    from apr.reports import junit as cases

    _chain.check_folder(html, junit)
    _chain.check_page(html)
    earlier = _read(previous) if previous is not None else None
    _chain.check_no_predictions(model)
    if parse(model).engine == "openai":
        raise UsageError(f"{model} is an endpoint: it has no file to judge; next: apr parity MODEL {model}")
    with _progress.downloading() as download:
        path = hub.resolve(parse(model).reference, progress=download)
        if reference is None and (found := _reference.beside(path)) is not None:
            reference = str(found)
    original = Subject.of(reference, threads=threads) if reference is not None else None
    with (
        Judged(model, reference=original, previous=earlier, profile=profile, seed=seed, threads=threads) as judged,
        _chain.testing("judging") as progress,
    ):
        report = gate.run(profile, judged, only=only, progress=progress)
    click.echo(json.dumps(report) if as_json else _gates.gates(report))
    return _chain.written(report, (html, pages.save), (junit, cases.save))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = _json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        raise UsageError(f"--previous {path}: {exc}; give what apr qa --json printed") from exc
    if not isinstance(found, dict) or found.get("schema") != "apr.qa/1":
        raise UsageError(f"--previous {path}: no report of apr qa; give what apr qa --json printed")
    return found
