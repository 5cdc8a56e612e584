"""`apr rm`: remove a model from the cache."""

from __future__ import annotations

import sys

import click

from apr.cli._options import json_option, model_argument


@click.command()
@model_argument
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def command(model: str, yes: bool, as_json: bool) -> None:
    """Remove MODEL from the cache. Files outside the cache are never touched.

    \b
    apr rm smollm2 --yes
    """
    from apr import hub
    from apr.reports import json, text

    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("say --yes to remove without being asked")
        click.confirm(f"remove {model} from the cache?", abort=True, err=True)
    removed = hub.remove(model)
    click.echo(json.dumps(removed) if as_json else text.removed(removed))
