"""The generation link for an endpoint: its texts, under the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from apr.errors import EngineError
from apr.parity import margin
from apr.parity._divergence import joined
from apr.parity._endpoint_logprobs import Asked, ask, eight_bit_ladder, excess, positions_of
from apr.parity._expectation import own_engine
from apr.parity._floor import Precision, coarsened, logit_ladder
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._pair import Pair

LINK = "generation"


def compare_endpoint(pair: Pair) -> LinkResult:
    """Compare texts; where they part, ask by how much the reference prefers its own token."""
    try:
        asked = ask(pair)
    except EngineError as exc:
        return undecided(LINK, "cannot_tell", f"the endpoint did not answer: {exc}")
    measure = {"regimes": _regimes(asked), "runs": [_row(a) for a in asked]}
    parted = [a for a in asked if a.first_divergence is not None]
    if not parted:
        return same(LINK, f"{len(asked)} of {len(asked)} answers are the same text", measure)
    said = f"{len(parted)} of {len(asked)} answers part from the reference's"
    if all(len(a.kl) for a in asked):
        judged = margin.judge(positions_of(asked), seed=pair.seed)
        if judged.verdict == "excess":
            return different(LINK, [excess(asked, judged)], measure)
        if judged.verdict == "benign":
            kl = float(np.concatenate([a.kl for a in asked]).mean())
            is_precision = kl <= eight_bit_ladder(pair, asked)
            cause = "drift.precision" if is_precision else "drift.quantization"
            return different(LINK, [Finding(cause, f"{said}, as its drift predicts: {judged.sentence}")], measure)  # type: ignore[arg-type]
        return undecided(LINK, "cannot_tell", f"{said}: {judged.sentence}", measure)
    return _by_ladder(pair, parted, said, measure)


def _by_ladder(pair: Pair, parted: Sequence[Asked], said: str, measure: dict[str, Any]) -> LinkResult:
    """Without log-probabilities: is each parting a tie that 8-bit arithmetic could turn?"""
    own = own_engine(pair.reference)
    texts = [(*a.prompt_ids, *a.ids)[:64] for a in parted[:4]]
    reach = joined(logit_ladder(own.session, texts, coarsened(Precision("int8", "float16", is_own=False)))).drift.max()
    if own is not pair.reference:
        own.unload()
    gaps = [
        (a, float(a.chosen_gap[a.first_divergence])) for a in parted if (a.first_divergence or 0) < len(a.chosen_gap)
    ]
    wide = [(a, gap) for a, gap in gaps if gap > reach]
    if not wide:
        sentence = f"{said}, each at a tie that 8-bit arithmetic turns (margins under {reach:.2g} logits)"
        return different(LINK, [Finding("drift.precision", sentence)], measure)
    a, gap = max(wide, key=lambda found: found[1])
    reason = (
        f"{said}; in {a.probe.regime}/{a.probe.id} by a token {gap:.2g} logits below the reference's own, where 8-bit "
        f"arithmetic moves {reach:.2g}: other weights, another prompt or a fault, which its log-probabilities would tell"
    )
    return undecided(LINK, "cannot_tell", reason, measure)


def _regimes(asked: Sequence[Asked]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for regime in dict.fromkeys(a.probe.regime for a in asked):
        parts = [a.first_divergence for a in asked if a.probe.regime == regime]
        found[regime] = {"n": len(parts), "n_identical": parts.count(None), "first_divergence": parts}
    return found


def _row(a: Asked) -> dict[str, Any]:
    at = a.first_divergence
    return {
        "probe": a.probe.id,
        "regime": a.probe.regime,
        "mode": "alone",
        "reference_ids": list(a.reference_ids),
        "candidate_ids": list(a.ids),
        "reference_text": a.reference_text,
        "candidate_text": a.answer.text,
        "first_divergence": at,
        "finish_reason": a.answer.finish_reason,
        "n_forced": len(a.chosen_gap) - (at or 0) if at is not None else 0,
        "forced_flips": int((a.chosen_gap[at:] > 0).sum()) if at is not None else 0,
        "is_explained": at is None,
    }
