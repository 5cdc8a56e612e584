"""`apr ship`: may these models be handed out?"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from apr.cli._options import json_option, store_option


@click.command(short_help="May these models be handed out? The figure, computed.")
@click.argument("plan", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=Path("ship.yaml"))
@store_option
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the report as one HTML page too.",
)
@click.option(
    "--card",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a block for a model card too: into FILE, which keeps all else.",
)
@click.option("--model", metavar="ID", help="Of which model of the plan the card is, where there are several.")
@json_option
def command(plan: Path, store: Path, html: Path | None, card: Path | None, model: str | None, as_json: bool) -> int:
    """Say of every criterion of PLAN (ship.yaml) how it stands, and compute the figure from that. Nothing is run or pulled.

    A criterion is discharged if each of its tests passed on these very bytes and neither contract nor engine has changed since.
    Evidence that was deleted, edited or swapped counts for nothing. Exit status 0: all that blocks is discharged; 1: some
    of it failed, or the evidence is not as it was left; 5: not all of it is shown.

    \b
    apr ship
    apr ship --html ship.html
    apr ship release/ship.yaml --card README.md
    """
    from apr import hub
    from apr.cli import _chain
    from apr.ledger import ship
    from apr.reports import _model_card, _ship, json
    from apr.reports import html as pages

    _chain.check_folder(html, card)
    report = ship.ship(ship.read(plan), folder=store, resolve=lambda name: hub.resolve(name, offline=True))
    click.echo(json.dumps(report) if as_json else _ship.ship(report))
    return _chain.written(report, (html, pages.save), (card, partial(_model_card.save, model=model)))
