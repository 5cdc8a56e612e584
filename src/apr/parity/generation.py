"""The generation link: both sides write, greedily, with the one generation function; then every token is accounted for.

The first place where two texts part says little: what counts is whether the drift that was measured on forced tokens
makes so many partings. And the candidate must agree with itself: what it writes is the arg-max of its own logits, with a
prompt cache and without, alone and in a batch, and it ends where it should.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from apr.engines._subject import Subject
from apr.errors import AprError, EngineError
from apr.parity._drift import Drift, drift
from apr.parity._endpoint_texts import compare_endpoint
from apr.parity._expectation import failed, loaded, missing_capability
from apr.parity._free_running import Free, check_itself, run_candidate, run_reference
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._pair import Pair
from apr.parity._teacher_forced import Forced, ReferenceFailed, VocabularyMismatch, left_out, observe

LINK = "generation"


def compare(pair: Pair) -> LinkResult:
    """Compare what both write on every probe, regime by regime."""
    if pair.reference.is_endpoint:
        return undecided(LINK, "not_comparable", "the reference is an endpoint: what it writes cannot be explained")
    if pair.candidate.is_endpoint:
        return compare_endpoint(pair)
    lacking = missing_capability(pair, "logits")
    if lacking is not None:
        return undecided(LINK, "skipped", lacking)
    failure = loaded(LINK, pair)
    if failure is not None:
        return failure
    try:
        forced = observe(pair)
        judged = drift(pair, forced)
        reference = run_reference(pair)
    except (VocabularyMismatch, ReferenceFailed) as exc:
        return undecided(LINK, "not_comparable", str(exc))
    except EngineError as exc:
        return failed(LINK, exc)
    try:
        candidate = run_candidate(pair)
    except EngineError as exc:
        return different(LINK, [Finding("engine.op", f"the candidate gives up while it generates: {exc}")])
    except AprError as exc:
        return undecided(LINK, "not_comparable", f"the candidate cannot read the prompts: {exc}")
    asked_otherwise = _asked_otherwise(reference, candidate)
    if asked_otherwise is not None:
        refused = undecided(LINK, "not_comparable", asked_otherwise)
        return replace(refused, findings=(Finding("harness", asked_otherwise),))
    measure = _measure(pair, reference, candidate, forced, judged)
    findings = check_itself(pair, candidate, judged.limits)
    if findings:
        return different(LINK, findings, measure)
    return _judged(reference, candidate, judged, measure)


def _judged(reference: Sequence[Free], candidate: Sequence[Free], judged: Drift, measure: dict[str, Any]) -> LinkResult:
    plain = [run for run in candidate if run.mode == "alone"]
    parted = [(a, b) for a, b in zip(reference, plain, strict=True) if a.ids != b.ids]
    if not parted:
        return same(LINK, f"{len(plain)} of {len(plain)} probes give the same tokens, in every mode", measure)
    faults = [finding for finding in judged.findings if not finding.is_benign]
    first, other = parted[0]
    at = _first_difference(first.ids, other.ids)
    where = {
        "regime": other.probe.regime,
        "probe": other.probe.id,
        "position": len(other.prompt_ids) + at,
        "token_id": other.ids[at] if at < len(other.ids) else None,
    }
    said = f"{len(parted)} of {len(plain)} probes part from the reference, first {other.probe.regime}/{other.probe.id} at token {at + 1}"
    if faults:
        return different(
            LINK, [Finding(faults[0].cause, f"{said}; {faults[0].sentence}", faults[0].where | where)], measure
        )
    if not judged.findings:
        sentence = f"{said}, though the logits agree to rounding"
        return different(LINK, [Finding("engine.sampling", sentence, where)], measure)
    if judged.is_open:
        return undecided(LINK, "cannot_tell", f"{said}: {judged.flips.sentence}", measure)
    return different(
        LINK,
        [Finding(judged.findings[0].cause, f"{said}, as the drift predicts: {judged.flips.sentence}", where)],
        measure,
    )


def _asked_otherwise(reference: Sequence[Free], candidate: Sequence[Free]) -> str | None:
    """Why the runs answer different questions; None if they do not."""
    for a, b in zip(reference, (run for run in candidate if run.mode == "alone"), strict=True):
        if a.prompt_ids != b.prompt_ids:
            return (
                f"{a.probe.regime}/{a.probe.id}: the two are given other ids ({len(a.prompt_ids)} against "
                f"{len(b.prompt_ids)}); the template and tokens links say why"
            )
    return None


def _measure(
    pair: Pair, reference: Sequence[Free], candidate: Sequence[Free], forced: Sequence[Forced], judged: Drift
) -> dict[str, Any]:
    of_probe = {run.prompt_ids: run for run in forced}
    right = {(run.probe.regime, run.probe.id): run for run in reference}
    runs, regimes = [], {}
    for run in candidate:
        wanted = right[run.probe.regime, run.probe.id]
        runs.append(_row(pair.reference, wanted, run, of_probe.get(wanted.prompt_ids), judged))
    for regime in dict.fromkeys(run.probe.regime for run in reference):
        rows = [row for row in runs if row["regime"] == regime and row["mode"] == "alone"]
        parts = [row["first_divergence"] for row in rows]
        regimes[regime] = {"n": len(rows), "n_identical": parts.count(None), "first_divergence": parts}
    return {
        "left_out": left_out(pair),
        "regimes": regimes,
        "runs": runs,
        "flips": {"verdict": judged.flips.verdict, "sentence": judged.flips.sentence},
    }


def _row(reference: Subject, wanted: Free, run: Free, forced: Forced | None, judged: Drift) -> dict[str, Any]:
    at = _first_difference(wanted.ids, run.ids) if wanted.ids != run.ids else None
    # of the reference's own tokens, those from the parting on: the candidate's choices there, the past being the same
    flips = forced.divergence.is_flip[forced.first_output + (at or 0) :] if forced is not None else np.zeros(0, bool)
    return {
        "probe": run.probe.id,
        "regime": run.probe.regime,
        "mode": run.mode,
        "reference_ids": list(wanted.ids),
        "candidate_ids": list(run.ids),
        "reference_text": reference.tokenizer.decode(list(wanted.ids)),
        "candidate_text": reference.tokenizer.decode(list(run.ids)),
        "first_divergence": at,
        "finish_reason": run.finish_reason,
        "n_forced": len(flips),
        "forced_flips": int(flips.sum()),
        "is_explained": at is None or (bool(judged.findings) and all(f.is_benign for f in judged.findings)),
    }


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
