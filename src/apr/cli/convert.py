"""`apr convert`: the same model in another container, or in fewer bits with the loss measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from apr.cli._options import complete_model, json_option, threads_option
from apr.errors import ConversionError, UsageError

if TYPE_CHECKING:
    from apr.convert._quantise import Recipe
    from apr.parity.loss import Loss

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _complete_mixture(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from apr.convert._mixture import MIXTURES

    return [CompletionItem(name) for name in MIXTURES if name.startswith(incomplete.lower())]


@click.command(short_help="Write a model in another format, or in fewer bits.")
@click.argument("model", required=False, shell_complete=complete_model)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="The new file (.gguf, .apr, .safetensors) or folder.",
)
@click.option(
    "--dequantize",
    type=click.Choice(["f32", "f16", "bf16"]),
    help="Decode tensors that the target cannot hold; f32 is exact.",
)
@click.option(
    "--quantize",
    metavar="MIXTURE",
    shell_complete=_complete_mixture,
    help="Quantise the matrices: q8_0, q6_k, q5_k_m, q5_k_s, q4_k_m, q4_k_s, q4_0, q3_k_m, q2_k …",
)
@click.option("--imatrix", type=_FILE, metavar="FILE", help="Weigh errors by this importance matrix (apr imatrix).")
@click.option("--report", is_flag=True, help="Measure what is lost; a loss that is no honest rounding is refused.")
@click.option(
    "--card",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the loss into a model card too; measures as --report does.",
)
@click.option(
    "--force", is_flag=True, help="Replace an existing target; keep a refused loss, which the file then says."
)
@click.option(
    "--verify",
    nargs=2,
    metavar="A B",
    shell_complete=complete_model,
    help="Write nothing: prove that B was made from A.",
)
@threads_option
@json_option
def command(
    model: str | None,
    output: Path | None,
    dequantize: str | None,
    quantize: str | None,
    imatrix: Path | None,
    report: bool,
    card: Path | None,
    force: bool,
    verify: tuple[str, str] | None,
    threads: int | None,
    as_json: bool,
) -> int:
    """Write MODEL in another format, keeping every block that the target can hold, and read the result back.

    With --quantize the matrices become blocks of fewer bits, as llama.cpp's own tool makes them, bit for bit. --report compares
    every tensor and what both say, writes the figures into the file, and refuses what is no honest rounding.

    \b
    apr convert smollm2 -o smollm2.apr --dequantize f32
    apr convert model-folder/ -o model.gguf --quantize q4_k_m --report
    apr convert --verify model-folder/ model.gguf
    """
    if verify is not None:
        if model is not None or output is not None or quantize is not None or dequantize is not None:
            raise UsageError("--verify A B writes nothing; leave the other model and its options out")
        return _verify(*verify, imatrix=imatrix, threads=threads, as_json=as_json)
    if model is None or output is None:
        raise UsageError("give the model and --output OUT, or --verify A B")
    if quantize is None and (imatrix is not None or report or card is not None):
        raise UsageError("--imatrix, --report and --card belong to --quantize MIXTURE; add it")
    return _convert(
        model, output, dequantize, _recipe(quantize, imatrix), report=report or card is not None, card=card, force=force,
        threads=threads, as_json=as_json,
    )  # fmt: skip


def _recipe(quantize: str | None, imatrix: Path | None) -> Recipe | None:
    if quantize is None:
        return None
    from apr.convert import _imatrix_file, _quantise

    return _quantise.recipe(quantize.lower(), _imatrix_file.read(imatrix) if imatrix is not None else None)


def _convert(
    model: str,
    output: Path,
    dequantize: str | None,
    recipe: Recipe | None,
    *,
    report: bool,
    card: Path | None,
    force: bool,
    threads: int | None,
    as_json: bool,
) -> int:
    from apr import hub
    from apr._plain import plain
    from apr.cli import _chain, _progress
    from apr.convert.transcode import convert
    from apr.formats import open_model
    from apr.reports import _loss, json, text

    _chain.check_folder(card)
    with _progress.downloading() as download:
        path = hub.resolve(model, progress=download)

    def total_bytes() -> int:
        with open_model(path) as file:
            return 2 * sum(info.n_bytes for info in file.tensors.values())  # written, then read back

    found: list[Loss] = []
    with _progress.working(f"converting {path.name}", total_bytes) as advance:
        result = convert(
            path,
            output,
            dequantize=dequantize,
            quantize=recipe,
            measure=_measuring(path, found, recipe, force=force, threads=threads) if report else None,
            overwrite="replace" if force else "refuse",
            progress=(lambda _, n_bytes: advance(n_bytes)) if advance else None,
        )
    loss = dataclasses.replace(found[0], candidate=str(output)) if found else None
    result = dataclasses.replace(result, loss=plain(loss) if loss is not None else None)
    click.echo(json.dumps(result) if as_json else text.conversion(result))
    if loss is not None and not as_json:
        click.echo("\n" + _loss.loss(loss))
    if loss is not None and card is not None:
        _loss.save_card(loss, card, title=output.name)
    return 0


def _measuring(
    source: Path, found: list[Loss], recipe: Recipe | None, *, force: bool, threads: int | None
) -> Callable[[Path], Mapping[str, Any]]:
    """What looks at the new file before it gets its name."""
    from apr.cli import _chain
    from apr.parity import loss
    from apr.reports import _loss

    def measure(staged: Path) -> Mapping[str, Any]:
        with _chain.testing("measuring") as tell:
            is_weighted = recipe is not None and recipe.importance is not None
            report = loss.measure(source, staged, is_weighted=is_weighted, threads=threads, progress=tell)
        found.append(report)
        if report.refusals and not force:
            more = f" (and {len(report.refusals) - 1} more)" if report.refusals[1:] else ""
            raise ConversionError(
                f"the copy is no honest rounding of {source.name}: {report.refusals[0]}{more}; nothing was written. --force keeps it, "
                "and the file says so"
            )
        return _loss.metadata(report, is_forced=bool(report.refusals))

    return measure


def _verify(original: str, copy: str, *, imatrix: Path | None, threads: int | None, as_json: bool) -> int:
    from apr import hub
    from apr.cli import _chain, _progress
    from apr.convert import _imatrix_file
    from apr.parity import made_from
    from apr.reports import _loss, json

    with _progress.downloading() as download:
        paths = [hub.resolve(name, progress=download) for name in (original, copy)]
    columns = _imatrix_file.read(imatrix).columns if imatrix is not None else None
    with _chain.testing("verifying") as tell:
        report = made_from.verify(*paths, importance=columns, threads=threads, progress=tell)
    report = dataclasses.replace(report, original=original, copy=copy)
    click.echo(json.dumps(report) if as_json else _loss.made_from(report))
    return report.exit_code
