"""`apr convert`: the same model in another container."""

from __future__ import annotations

from pathlib import Path

import click

from apr.cli._options import json_option, model_argument


@click.command(short_help="Write a model in another format.")
@model_argument
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="The new file (.gguf, .apr, .safetensors) or folder.",
)
@click.option(
    "--dequantize",
    type=click.Choice(["f32", "f16", "bf16"]),
    help="Decode tensors that the target cannot hold; f32 is exact.",
)
@click.option("--force", "overwrite", flag_value="replace", default="refuse", help="Replace an existing target.")
@json_option
def command(model: str, output: Path, dequantize: str | None, overwrite: str, as_json: bool) -> None:
    """Write MODEL in another format, keeping every block that the target can hold, and read the result back.

    \b
    apr convert smollm2 -o smollm2.apr --dequantize f32
    apr convert model-folder/ -o model.gguf
    """
    from apr import hub
    from apr.cli import _progress
    from apr.convert.transcode import convert
    from apr.formats import open_model
    from apr.reports import json, text

    with _progress.downloading() as download:
        path = hub.resolve(model, progress=download)

    def total_bytes() -> int:
        with open_model(path) as file:
            return 2 * sum(info.n_bytes for info in file.tensors.values())  # written, then read back

    with _progress.working(f"converting {path.name}", total_bytes) as advance:
        result = convert(
            path,
            output,
            dequantize=dequantize,
            overwrite=overwrite,  # type: ignore[arg-type]
            progress=(lambda _, n_bytes: advance(n_bytes)) if advance else None,
        )
    click.echo(json.dumps(result) if as_json else text.conversion(result))
