"""`apr imatrix`: which columns of each matrix count, over a text."""

from __future__ import annotations

from pathlib import Path

import click

from apr.cli._options import json_option, model_argument, threads_option
from apr.errors import UsageError

_DEFAULT_CHUNK = 512  # tokens, as llama-imatrix has it


@click.command(short_help="Collect an importance matrix over a text.")
@model_argument
@click.argument("text", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The new file (.gguf)."
)
@click.option(
    "--chunk",
    type=click.IntRange(min=2),
    default=_DEFAULT_CHUNK,
    show_default=True,
    metavar="N",
    help="Tokens of a chunk.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Chunks at most. [default: the whole text]")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@threads_option
@json_option
def command(
    model: str, text: Path, output: Path, chunk: int, limit: int | None, force: bool, threads: int | None, as_json: bool
) -> int:
    """Run MODEL over TEXT and write how large the inputs of each matrix are, column by column, in llama.cpp's format.

    A quantiser weighs its errors by it: apr convert MODEL -o OUT --quantize q4_k_m --imatrix FILE. Activations are kept
    exact. The text should be of the kind that the model will see.

    \b
    apr imatrix smollm2 text.txt -o smollm2.imatrix.gguf
    """
    import apr
    from apr import hub
    from apr.cli import _chain, _progress
    from apr.convert import imatrix
    from apr.reports import json
    from apr.reports import text as texts

    if output.exists() and not force:
        raise UsageError(f"{output} exists; give another name, or --force")
    with _progress.downloading() as download:
        path = hub.resolve(model, progress=download)
    with apr.load(str(path), threads=threads, activations="float32") as loaded, _chain.testing("reading") as tell:
        result = imatrix.imatrix(
            loaded,
            text,
            output,
            name=model,
            chunk_size=chunk,
            limit=limit,
            progress=(lambda done, n: tell("chunks", done / n)) if tell is not None else None,
        )
    click.echo(json.dumps(result) if as_json else texts.imatrix(result))
    return 0
