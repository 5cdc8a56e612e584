"""What a quantised copy lost: every tensor, then what the copy says, with intervals and a floor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apr.engines._subject import Subject
from apr.parity import _tensor_loss, chain
from apr.parity._link import LinkResult, Verdict
from apr.parity._tensor_loss import TensorLoss
from apr.parity._weights_census import census

SCHEMA = "apr.loss/1"
_LINKS = ("weights", "logits")

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class RegimeLoss:
    """What the copy says otherwise under one kind of prompt.

    regime:       raw, chat, multi-turn, pre-formatted or long
    n_positions:  that were compared
    kl_mean:      Kullback-Leibler divergence of the next token's distribution, nats
    kl_interval:  95 %, of that mean
    kl_p99:       nats
    top1_agreement: share of positions with the same most likely token
    n_flips:      the others
    """

    regime: str
    n_positions: int
    kl_mean: float
    kl_interval: tuple[float, float]
    kl_p99: float
    top1_agreement: float
    n_flips: int


@dataclass(frozen=True, slots=True)
class Loss:
    """What a quantised copy lost.

    reference, candidate: as they were named
    n_tensors:    that the architecture computes with
    n_measured:   of them, those that were compared value by value
    bits_per_weight: of the copy's tensors
    tensors:      each that is not the same
    kl_floor:     what two computations of the same model differ by, nats
    regimes:      of the prompts
    verdict, benign: of the chain's links that were compared
    sentence:     of the link that decided
    refusals:     why this is no honest rounding; empty if it is one
    seconds:      of wall time
    """

    reference: str
    candidate: str
    n_tensors: int
    n_measured: int
    bits_per_weight: float
    tensors: tuple[TensorLoss, ...]
    kl_floor: float | None
    regimes: tuple[RegimeLoss, ...]
    verdict: Verdict
    benign: bool
    sentence: str
    refusals: tuple[str, ...]
    seconds: float
    schema: str = SCHEMA


def measure(
    reference: str | Path,
    candidate: str | Path,
    *,
    is_weighted: bool = False,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Loss:
    """Compare a copy with what it was made from: all tensors, then texts and chats, by our own exact engine.

    is_weighted:  an importance matrix was used: values of little importance may be off by more than a step, so the ladder
                  alone judges the tensors

    Raises  AprError for a file that cannot be read, or that is of another architecture.
    """
    started = time.perf_counter()
    options: dict[str, Any] = {"threads": threads, "activations": "float32"}
    pair = chain.pair_of(
        Subject.of(str(reference), **options), Subject.of(str(candidate), **options), seed=seed, progress=progress
    )
    try:
        counted = census(pair)
        tensors = []
        for done, match in enumerate(counted.matches):
            if progress is not None:
                progress("tensors", done / len(counted.matches))
            tensors.append(_tensor_loss.measure(match))
            for place in (match.reference, match.candidate):
                place.release()
        links = [chain.compare(link, pair) for link in _LINKS]
        infos = [place.info for place in pair.candidate.checkpoint.tensors.values()]
    finally:
        pair.close()
    broken = [link for link in links if link.verdict == "different" and not link.is_benign]
    if is_weighted:
        broken = [link for link in broken if not _is_of_weights(link)]
    verdict, benign = chain.verdict_of(links)
    logits = next(link for link in links if link.link == "logits")
    n_tensors = len(pair.reference.checkpoint.expected)
    return Loss(
        reference=str(reference),
        candidate=str(candidate),
        n_tensors=n_tensors,
        n_measured=len(tensors),
        bits_per_weight=8 * sum(info.n_bytes for info in infos) / sum(info.n_elements for info in infos),
        tensors=tuple(tensor for tensor in tensors if tensor.max_abs > 0),
        kl_floor=logits.measure.get("floor"),
        regimes=tuple(_regimes(logits)),
        verdict=verdict,
        benign=benign,
        sentence=_sentence(links, broken),
        refusals=(*_refusals(tensors, broken), *_unseen(len(tensors), n_tensors, logits)),
        seconds=time.perf_counter() - started,
    )


def _regimes(logits: LinkResult) -> list[RegimeLoss]:
    found: dict[str, dict[str, Any]] = logits.measure.get("regimes", {})
    return [
        RegimeLoss(
            regime=name,
            n_positions=row["n_positions"],
            kl_mean=row["kl_mean"],
            kl_interval=(row["kl_interval"][0], row["kl_interval"][1]),
            kl_p99=row["kl_p99"],
            top1_agreement=row["top1_agreement"],
            n_flips=row["n_flips"],
        )
        for name, row in found.items()
    ]


def _refusals(tensors: Sequence[TensorLoss], broken: Sequence[LinkResult]) -> list[str]:
    refusals = [f"{tensor.tensor}: {tensor.refusal}" for tensor in tensors if tensor.refusal is not None]
    return refusals + [f"{link.link}: {link.sentence}" for link in broken]


def _unseen(n_measured: int, n_tensors: int, logits: LinkResult) -> Iterator[str]:
    """What was not compared: nothing is shown of it."""
    if n_measured < n_tensors:
        yield f"only {n_measured} of {n_tensors} tensors could be compared"
    if not logits.measure.get("regimes") and logits.verdict != "different":
        yield f"what the copy says was not compared: {logits.sentence}"


def _is_of_weights(link: LinkResult) -> bool:
    """Whether what was found is in the weights, or follows from them."""
    causes = [finding.cause for finding in link.findings if not finding.is_benign]
    return bool(causes) and all(cause.startswith("weights.") for cause in causes)


def _sentence(links: Sequence[LinkResult], broken: Sequence[LinkResult]) -> str:
    """Of the first link that is broken, else of the logits."""
    logits = next(link for link in links if link.link == "logits")
    if not broken and not logits.is_benign:
        return "every tensor loses what its type loses; by importance, single values may be off by more than a step"
    return (broken or [logits])[0].sentence
