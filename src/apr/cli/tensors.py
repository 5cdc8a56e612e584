"""`apr tensors`: the tensors of a model file."""

from __future__ import annotations

import click

from apr.cli._options import json_option, model_argument


@click.command(short_help="List the tensors of a model file.")
@model_argument
@click.option("--filter", "containing", default="", metavar="TEXT", help="Only names that contain TEXT.")
@click.option("--limit", type=click.IntRange(0), default=0, help="At most so many; 0 shows all.")
@click.option("--stats", is_flag=True, help="Decode them: mean, std, min, max, NaN and infinity counts.")
@json_option
def command(model: str, containing: str, limit: int, stats: bool, as_json: bool) -> None:
    """List the tensors of MODEL: name, type, shape ([out, in]), bytes.

    \b
    apr tensors smollm2 --filter blk.0
    apr tensors model.safetensors --stats --limit 10
    """
    from apr import hub
    from apr.cli import _progress
    from apr.formats import open_model
    from apr.models._inspection import list_tensors
    from apr.reports import json, text

    with _progress.downloading() as progress:
        path = hub.resolve(model, progress=progress)
    with open_model(path) as file:
        chosen = list_tensors(file, containing=containing, limit=limit)
        if not stats:
            result = chosen
        else:
            with _progress.working(f"decoding {path.name}", lambda: sum(t.n_bytes for t in chosen.tensors)) as advance:
                result = list_tensors(file, containing=containing, limit=limit, statistics=True, progress=advance)
    click.echo(json.dumps(result) if as_json else text.tensors(result, containing=containing))
