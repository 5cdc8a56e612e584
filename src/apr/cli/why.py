"""`apr why`: the first broken link between two copies, named and proved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apr.cli._chain import fast_option, html_option, reference_argument, seed_option
from apr.cli._options import complete_subject, json_option, threads_option
from apr.errors import UsageError

if TYPE_CHECKING:
    from apr.engines._base import Activations


@click.command(short_help="Say why two copies differ, and prove it.")
@reference_argument
@click.argument("candidate", metavar="[B]", required=False, shell_complete=complete_subject)
@html_option
@click.option(
    "--records",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Run the probes on both sides and keep the run records in this folder.",
)
@threads_option
@fast_option
@seed_option
@json_option
def command(
    reference: str,
    candidate: str | None,
    html: Path | None,
    records: Path | None,
    threads: int | None,
    activations: Activations,
    seed: int,
    as_json: bool,
) -> int:
    """Name the first link of the chain where B leaves A, the reference, and prove it: A's output of that link is put into
    B, and everything behind it is compared again. Without B, say what is wrong with A by itself.

    A and B are MODEL[@ENGINE]: a path, an alias, a URL (hf://, pypi://), run by our own engine unless another is named,
    or openai://host:port/model.

    \b
    apr why original/ model.gguf
    apr why smollm2 tuned.gguf --html why.html
    apr why model.gguf model.gguf@llama-cpp --json | jq .cause
    """
    from apr.cli import _chain, _records
    from apr.parity import why
    from apr.reports import _parity

    _chain.check_page(html)
    _chain.check_no_predictions(*filter(None, (reference, candidate)))
    if candidate is None:
        if records is not None:
            raise UsageError("--records keeps the runs of two sides; one model alone is not run")
        if _chain.is_record(reference):
            raise UsageError(f"{reference} is a run record; give a model, or two records to apr parity")
        _chain.fetch(reference)
        with _chain.testing() as progress:
            report = why.why_one(reference, progress=progress, threads=threads)
    else:
        if _chain.are_records(reference, candidate):
            raise UsageError("two run records hold no model to look into; next: apr parity A.json B.json")
        _chain.fetch(reference, candidate)
        with _chain.testing() as progress:
            report = why.why(
                reference, candidate, seed=seed, progress=progress, threads=threads, activations=activations
            )
            if records is not None:
                kept = _records.keep(
                    records, reference, candidate, threads=threads, activations=activations, progress=progress
                )
                report = replace(report, records=kept)
    return _chain.finish(report, _parity.why(report), as_json=as_json, html=html)
