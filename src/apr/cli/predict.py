"""`apr predict`: what was expected of two runs, written down before they are made; then made, compared and judged."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apr.cli._options import json_option
from apr.errors import UsageError

if TYPE_CHECKING:
    from apr.ledger.prediction import PredictionFile

_file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group(short_help="Predictions, tried.")
def command() -> None:
    """Try predictions: two runs that differ in one declared field, what is expected of them, and what each outcome means.

    The form of FILE is in docs/predictions.md. Two runs that differ in anything else are refused (exit status 5), with
    everything else named: nothing would follow from what they write.

    \b
    apr predict check predictions.yaml
    apr predict run predictions.yaml
    """


@command.command("check", short_help="What would differ, before anything is run.")
@_file_argument
@json_option
def check(file: Path, as_json: bool) -> int:
    """Say what the runs of FILE would differ in, and which of its hypotheses they could tell apart. Nothing is run or pulled."""
    from apr.ledger import _experiment, prediction
    from apr.reports import _predict, json

    report = _experiment.check(prediction.read(file))
    click.echo(json.dumps(report) if as_json else _predict.predict(report))
    return report.exit_code


@command.command("run", short_help="Both runs, compared and judged.")
@_file_argument
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="RESULT",
    help="Where to keep the result as JSON. [default: beside FILE, with the time in its name]",
)
@json_option
def run(file: Path, out: Path | None, as_json: bool) -> int:
    """Make the runs of FILE and judge them. The result is kept as JSON: at first with the SHA-256 of FILE alone, then with each
    prediction as it is done. Exit status 0: as expected; 1: not; 5: nothing can be said.
    """
    from apr.cli import _chain
    from apr.ledger import _experiment, prediction
    from apr.reports import _predict, json, text

    found = prediction.read(file)
    target = _free(out or file.with_name(f"{file.stem}.{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"))
    _fetch(found)
    with _chain.testing("running") as progress:
        report = _experiment.run(
            found, save=lambda made: json.save(made, target), tell=progress or (lambda what, share: None)
        )
    click.echo(json.dumps(report) if as_json else _predict.predict(report))
    click.echo(text.written_line(target, what="result"), err=True)
    return report.exit_code


def _free(path: Path) -> Path:
    """A name that nothing has: what was predicted and found is never written over. Raises UsageError."""
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} is there, and a result is not written over; give another name with --out")
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: {path.parent} is not a folder; create it first")
    return path


def _fetch(file: PredictionFile) -> None:
    """Have every model of the predictions that may be run here, with a bar."""
    from apr import hub
    from apr.cli import _progress
    from apr.errors import HubError
    from apr.ledger import _differences, _runs
    from apr.ledger.prediction import RUNS

    with _progress.downloading() as download:
        for one in file.predictions:
            if _differences.between_settings(one).refusal is not None:
                continue  # it will not be run
            for name in RUNS:
                try:
                    hub.resolve(_runs.place(one.settings(name).model, file.path.parent), progress=download)
                except HubError:
                    continue  # the run says so, and the other predictions are run
