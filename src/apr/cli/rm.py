"""`apr rm`: remove a model from the cache."""

from __future__ import annotations

import sys

import click

from apr.cli._options import cached_model_argument, json_option


@click.command(short_help="Remove a model from the cache.")
@cached_model_argument
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def command(model: str, yes: bool, as_json: bool) -> None:
    """Remove MODEL from the cache. Files outside the cache are never touched.

    \b
    apr rm smollm2
    apr rm smollm2 --yes
    """
    from apr import hub
    from apr.cli._results import Removed
    from apr.reports import json, text
    from apr.reports._table import size

    found = next((m for m in hub.cached() if m.reference == model), None)
    if found is not None and not yes:  # what is not here is the hub's error, before any question
        if not sys.stdin.isatty():
            raise click.UsageError("say --yes to remove without being asked", click.get_current_context())
        asked = f"remove {text.visible(model)} ({size(found.size_bytes)}) from the cache?"
        if not click.confirm(asked, err=True):
            click.echo("apr: nothing was removed", err=True)
            return
    removed = hub.remove(model)
    click.echo(json.dumps(Removed(removed)) if as_json else text.removed(removed))
