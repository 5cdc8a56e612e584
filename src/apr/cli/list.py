"""`apr list`: the models that are here, and the aliases that can be pulled."""

from __future__ import annotations

import click

from apr.cli._options import json_option


@click.command(short_help="Show the models that are here, and aliases.")
@json_option
def command(as_json: bool) -> None:
    """Show the models in the cache, and the aliases that can be pulled.

    \b
    apr list
    apr list --json
    """
    from apr import hub
    from apr.cli._results import ModelList
    from apr.reports import json, text

    cached, aliases = hub.cached(), hub.aliases()
    if as_json:
        click.echo(json.dumps(ModelList(tuple(cached), tuple(aliases.values()))))
    else:
        click.echo(text.model_list(cached, aliases, hub.cache_dir()))
