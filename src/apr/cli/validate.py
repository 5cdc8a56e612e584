"""`apr validate`: what is wrong with a model file."""

from __future__ import annotations

import click

from apr.cli._options import json_option, model_argument


@click.command(short_help="Find what is wrong with a model file.")
@model_argument
@json_option
def command(model: str, as_json: bool) -> int:
    """Check MODEL's bytes: structure, checksums, finite weights, shapes, vocabulary, chat template. Nothing is run.

    \b
    apr validate smollm2
    apr validate model.apr --json
    """
    from apr import hub
    from apr.cli import _progress
    from apr.qa import gate
    from apr.qa._judged import Judged
    from apr.reports import _gates, json

    with _progress.downloading() as progress:
        path = hub.resolve(model, progress=progress)
    with Judged(path) as judged, _progress.working(f"checking {path.name}", lambda: judged.n_bytes) as advance:
        judged.progress = advance
        report = gate.run("file", judged)
    click.echo(json.dumps(report) if as_json else _gates.gates(report))
    return report.exit_code
