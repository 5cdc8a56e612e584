"""The weights link: every tensor of two models, under canonical names and layouts; what differs is explained.

A tensor is `exact`, or `rounded` (what both encodings can explain by rounding, block by block: `_rounding_bounds`), or
`different`; then `_transforms` looks for what was done to it. Encodings of one type are compared byte by byte first, so
that lossless copies are not even decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from apr.engines._subject import Subject
from apr.errors import AprError
from apr.parity import _weights_alone
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._pair import Pair
from apr.parity._weights_census import EMBEDDING, HEAD, census, incomplete
from apr.parity._weights_findings import Outcome, findings, row
from apr.parity._weights_judging import judged
from apr.parity._weights_measures import Pool

LINK = "weights"


def compare(pair: Pair) -> LinkResult:
    """Compare all tensors that the reference's architecture computes with."""
    try:
        lacking = incomplete(pair.reference.checkpoint)
    except AprError as exc:
        return undecided(LINK, "not_comparable", f"the reference cannot be read: {exc}")
    if lacking:
        reason = f"the reference itself lacks {lacking[0]}" + (f" and {len(lacking) - 1} more" if lacking[1:] else "")
        return undecided(LINK, "not_comparable", f"{reason}; give a complete one")
    try:
        counted = census(pair)
        pool = Pool(pair.candidate.threads)
        try:
            outcomes = [*counted.outcomes, *judged(counted, pool, lambda share: pair.progress(LINK, share))]
        finally:
            pool.close()
    except AprError as exc:
        found = Finding("file.unreadable", f"the candidate's weights cannot be read: {exc}")
        return different(LINK, [found])
    return _result(outcomes)


def force(pair: Pair, findings: Sequence[Finding]) -> Subject:
    """The candidate with the reference's tensors in the place of those that the findings name; drift is left alone."""
    reference = pair.reference.checkpoint
    wrong = [finding for finding in findings if not finding.is_benign] or list(findings)
    named = {name for finding in wrong for name in finding.where.get("tensors", [finding.where.get("tensor")])}
    places = {name: place for name, place in reference.tensors.items() if name in named}
    if HEAD in named and reference.config.tie_word_embeddings:
        places[HEAD] = reference.tensors[EMBEDDING]
    if any(f.cause == "file.unreadable" for f in wrong):
        places = dict(reference.tensors)
    return pair.candidate.with_config(_config(pair, named)).with_tensors(places)


def examine(subject: Subject) -> LinkResult:
    """What a file's weights say against themselves, without a reference."""
    return _weights_alone.examine(subject)


def _config(pair: Pair, named: set[Any]) -> Any:
    """The candidate's configuration, with the switches that decide which of the forced tensors are read."""
    theirs = pair.reference.config
    try:
        ours = pair.candidate.config
    except AprError:
        return theirs
    changes: dict[str, Any] = {"attention_bias": theirs.attention_bias}
    if HEAD in named:
        changes["tie_word_embeddings"] = theirs.tie_word_embeddings
    if named & {HEAD, EMBEDDING}:
        changes["vocab_size"] = theirs.vocab_size
    return dataclasses.replace(ours, **changes)


def _result(outcomes: Sequence[Outcome]) -> LinkResult:
    by_verdict = {
        verdict: [o for o in outcomes if o.verdict == verdict]
        for verdict in ("exact", "rounded", "different", "unknown")
    }
    measure = {
        "n_tensors": len(outcomes),
        "n_exact": len(by_verdict["exact"]),
        "n_rounded": len(by_verdict["rounded"]),
        "n_unknown": len(by_verdict["unknown"]),
        "tensors": [row(outcome) for outcome in outcomes if outcome.verdict != "exact"],
    }
    found = findings(outcomes)
    unknown = by_verdict["unknown"]
    if any(not finding.is_benign for finding in found) or (found and not unknown):
        return different(LINK, found, measure)
    if unknown:
        codecs = sorted({str(o.codec_candidate) for o in unknown} | {str(o.codec_reference) for o in unknown})
        reason = f"{len(unknown)} of {len(outcomes)} tensors differ in their bytes and are not decoded here ({', '.join(codecs)})"
        return undecided(LINK, "cannot_tell", f"{reason}; copies in another type would decide", measure)
    return same(LINK, f"all {len(outcomes)} tensors hold the same values", measure)
