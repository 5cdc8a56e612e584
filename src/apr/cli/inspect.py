"""`apr inspect`: what a model file is."""

from __future__ import annotations

import click

from apr.cli._options import json_option, model_argument


@click.command(short_help="Say what a model file is.")
@model_argument
@click.option("--metadata", is_flag=True, help="Show the file's own keys too, long values cut.")
@json_option
def command(model: str, metadata: bool, as_json: bool) -> None:
    """Say what MODEL is: format, architecture, shapes, types, tokenizer, template. No weight is decoded.

    \b
    apr inspect smollm2
    apr inspect model.gguf --metadata
    """
    from apr import hub
    from apr.cli import _progress
    from apr.formats import open_model
    from apr.models._inspection import inspect
    from apr.reports import json, text

    with _progress.downloading() as progress:
        path = hub.resolve(model, progress=progress)
    with open_model(path) as file:
        result = inspect(file, metadata=metadata)
        click.echo(json.dumps(result) if as_json else text.inspection(result))
