"""The verdict of every pair of tensors: bytes first, then values, then what rounding leaves open.

Whether the candidate was made from the reference as it is (then only the candidate's rounding counts), or both from one
original (then both do), is decided for the whole file: by most of the tensors that were rounded twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from apr.parity._causes import Cause
from apr.parity._rounding_bounds import is_block_codec, is_known
from apr.parity._transforms import Case, explain
from apr.parity._weights_bytes import same_bytes
from apr.parity._weights_census import EMBEDDING, HEAD, Census, Match
from apr.parity._weights_findings import Outcome
from apr.parity._weights_measures import INTERMEDIATE, Damage, Judgement, Pool, damage, judge_whole
from apr.parity._weights_others import Others
from apr.parity._weights_rows import Readable, Tensor, certain, copied, first_rows

# a tensor's damage is local if it is in fewer blocks than this share
_LOCAL = 0.05
# mean difference in half steps from which values were not rounded to the nearest: honest rounding stays under 0.25
_BIASED = 0.5
# blocks with a scale of their own: from so many in a file on, it was quantised with an importance matrix, unless it says so itself, as
# llama.cpp writes it; share of a tensor
_LEAST_REFITTED, _MOST_REFITTED = 5, 0.1
_SAYS_WEIGHTED = "quantize.imatrix.file"
# share of values beyond the candidate's own rounding that both roundings explain: it may not be made from the reference
_STRAY = 1e-4
# still the same weights, if badly rounded
_SAME_WEIGHTS = 0.5
# tensors without an explanation after which the models are taken for different ones, and no transform is looked for
_MOST_SEARCHED = 24
# the types that a reference may have been copied to before it was rounded further
_COPIES = {"f64": ("f16", "bf16"), "f32": ("f16", "bf16"), "f16": ("bf16",), "bf16": ("f16",)}
_PLAIN_BLOCK = 32  # columns, where the encoding has no blocks


@dataclass(frozen=True, slots=True)
class _Measured:
    match: Match
    reference: Readable
    candidate: Readable
    judgement: Judgement

    @property
    def name(self) -> str:
        return self.match.name

    @property
    def codecs(self) -> tuple[str, str]:
        return self.match.reference.info.codec, self.match.candidate.info.codec

    @property
    def is_vector(self) -> bool:
        return len(self.match.candidate.info.shape) < 2

    def outcome(self, verdict: Any, cause: Cause | None, kind: str, phrase: str, where: dict[str, Any]) -> Outcome:
        """With the figures that every outcome has."""
        b, (theirs, ours) = self.judgement, self.codecs
        bound = b.worst[4] if math.isfinite(b.worst[4]) else None
        has_values = b.n > 0
        figures = (_finite(b.rel_l2), b.max_abs, bound) if has_values else (None, None, None)
        return Outcome(self.name, verdict, cause, kind, phrase, where, theirs, ours, *figures)


def judged(counted: Census, pool: Pool, progress: Callable[[float], None]) -> list[Outcome]:
    """The outcome of every match. Raises HostileFile for a file that shrinks."""
    outcomes: list[Outcome] = []
    measured: list[_Measured] = []
    for done, match in enumerate(counted.matches):
        progress(done / len(counted.matches))
        if (settled := _settled(match)) is not None:
            outcomes.append(settled)
        else:
            measured.append(_measure(match, pool))
        for place in (match.reference, match.candidate):
            place.release()
    made_from = _is_made_from_reference(measured)
    is_weighted = _is_weighted(counted, measured)
    rest = []
    for one in measured:
        own = made_from and one.codecs[0] != "f32"
        outcome = _rounded(one, own=own, is_weighted=is_weighted)
        if outcome is None:
            outcome = _rounded_by_way_of_a_copy(one, pool, own=own, is_weighted=is_weighted)
        if outcome is not None:
            outcomes.append(outcome)
        else:
            rest.append(_again(one, pool) if own and one.judgement.n else one)
    return outcomes + _explained(counted, rest, pool)


def _again(one: _Measured, pool: Pool) -> _Measured:
    """Measured by the candidate's rounding alone."""
    reference = certain(one.reference, but_for=INTERMEDIATE if is_block_codec(one.codecs[1]) else 0.0)
    return replace(one, reference=reference, judgement=judge_whole(reference, one.candidate, pool))


def _settled(match: Match) -> Outcome | None:
    """What needs no decoding: equal bytes, or an encoding that is not known."""
    a, b = match.reference, match.candidate
    codecs = (a.info.codec, b.info.codec)
    if same_bytes(a, b, n_rows=match.n_rows):
        return Outcome(match.name, "exact", None, "", "", {}, *codecs)
    if not (is_known(a.info.codec) and is_known(b.info.codec)):
        return Outcome(match.name, "unknown", None, "", "", {}, *codecs)
    return None


def _measure(match: Match, pool: Pool) -> _Measured:
    ours, theirs = Tensor(match.candidate), Tensor(match.reference)
    n_rows = match.n_rows
    candidate: Readable = ours if n_rows is None else first_rows(ours, n_rows)
    reference: Readable = theirs if n_rows is None else first_rows(theirs, n_rows)
    if candidate.shape != reference.shape:
        return _Measured(match, reference, candidate, Judgement())
    return _Measured(match, reference, candidate, judge_whole(reference, candidate, pool))


def _is_made_from_reference(measured: Sequence[_Measured]) -> bool:
    """Whether most tensors lie within the candidate's own rounding, of those whose reference is rounded as coarsely."""
    telling = [b for m in measured if (b := m.judgement).n_differing and 2 * b.sum_half_reference >= b.sum_half]
    within = sum(b.n_beyond_own - b.n_refitted_own <= _STRAY * b.n for b in telling if b.n_beyond == 0)
    return bool(telling) and within * 2 >= len(telling)


def _is_weighted(counted: Census, measured: Sequence[_Measured]) -> bool:
    """Whether an importance matrix was used: a file says so, or enough blocks have scales of their own."""
    says_so = any(_SAYS_WEIGHTED in side.file.metadata for side in (counted.reference, counted.candidate))
    return says_so or sum(one.judgement.n_refitted_blocks for one in measured) >= _LEAST_REFITTED


def _rounded(one: _Measured, *, own: bool, is_weighted: bool) -> Outcome | None:
    """Exact or rounded; None if rounding does not explain it."""
    b = one.judgement
    if not b.n or b.n_nonfinite:
        return None
    if not b.n_differing:
        return one.outcome("exact", None, "", "", {})
    if b.n_beyond > b.n_refitted or (b.n_refitted and not (is_weighted and _is_scattered(b))):
        return None
    if own and b.n_beyond_own - b.n_refitted_own > _STRAY * b.n:
        return None
    if max(abs(b.bias), abs(b.outward)) > _BIASED and b.n > 1000:
        return None
    is_blocks = any(is_block_codec(codec) for codec in (one.codecs[1:] if own else one.codecs))
    return one.outcome("rounded", "drift.quantization" if is_blocks else "drift.precision", "", "is rounded", {})


def _rounded_by_way_of_a_copy(one: _Measured, pool: Pool, *, own: bool, is_weighted: bool) -> Outcome | None:
    """Rounded, of a copy that had less precision than the reference has: models are often decoded to one first."""
    b = one.judgement
    if not b.n or b.n_nonfinite or not (b.n_refitted or b.worst[0] <= INTERMEDIATE * abs(b.worst[5])):
        return None
    for codec in _COPIES.get(one.codecs[0], ()):
        copy = replace(one, judgement=judge_whole(copied(one.reference, codec), one.candidate, pool))
        found = _rounded(copy, own=own, is_weighted=is_weighted)
        if found is not None:
            return one.outcome(found.verdict, found.cause, "", f"is rounded, of a copy in {codec}", {"copy": codec})
    return None


def _is_scattered(b: Judgement) -> bool:
    """Whether refitted blocks lie here and there: whole rows of them are rows that were scaled."""
    return b.n_refitted_rows == 0 and b.n_refitted_blocks <= _MOST_REFITTED * b.n / _PLAIN_BLOCK


def _explained(counted: Census, rest: Sequence[_Measured], pool: Pool) -> list[Outcome]:
    """What was done to the tensors that rounding does not explain."""
    others = Others(counted.reference, counted.candidate, pool)
    vectors_same = not any(one.is_vector for one in rest)
    outcomes, in_vain = [], 0
    for one in rest:
        is_searched = in_vain < _MOST_SEARCHED
        outcome = _why(counted, one, others, pool) if is_searched else None
        if outcome is None:
            in_vain += 1
            outcome = _unexplained(one, pool, vectors_same=vectors_same)
        outcomes.append(_of_head(counted, one, outcome))
    return outcomes


def _why(counted: Census, one: _Measured, others: Others, pool: Pool) -> Outcome | None:
    b = one.judgement
    if b.n_nonfinite:
        return _nonfinite(one)
    config, order = counted.reference.config, one.match.candidate.row_order
    case = Case(one.name, one.reference, one.candidate, b, config, pool, file_order=order)
    found = explain(case)
    if found is not None:
        if found.cause == "weights.zeroed" and found.kind == "whole" and one.name.endswith(".bias"):
            return one.outcome("different", "weights.bias_missing", "bias", "is zero throughout", found.where)
        return one.outcome("different", found.cause, found.kind, found.phrase, found.where)
    other = others.search(one.name, one.match.candidate)
    if other is not None:
        phrase = f"holds what the reference has in {other}"
        return one.outcome("different", "weights.swapped", other, phrase, {"other": other})
    if not b.n:
        a, c = list(one.match.reference.info.shape), list(one.match.candidate.info.shape)
        phrase = f"is {c}, the reference's is {a}"
        return one.outcome("different", "weights.unexplained", "shape", phrase, {"reference": a, "candidate": c})
    return None


def _nonfinite(one: _Measured) -> Outcome:
    b = one.judgement
    assert b.first_nonfinite is not None, "counted with the first"
    row, column, was = b.first_nonfinite
    where = {"n_nonfinite": b.n_nonfinite, "row": row, "column": column, "reference": was}
    too_large = one.codecs[1] == "f16" and abs(was) > 65504
    why = (
        f": the reference's {was:g} is beyond the largest number of f16"
        if too_large
        else f"; the reference has {was:g}"
    )
    phrase = f"has {b.n_nonfinite} values that are not finite, the first in row {row}, column {column}{why}"
    return one.outcome("different", "weights.nonfinite", "nonfinite", phrase, where)


def _unexplained(one: _Measured, pool: Pool, *, vectors_same: bool) -> Outcome:
    """Beyond rounding, and no transform: damage in a few blocks, bad rounding throughout, or other weights."""
    b, codecs = one.judgement, one.codecs
    if not b.n:
        return one.outcome("different", "weights.unexplained", "shape", "has another shape", {})
    rounded_down = max(abs(b.bias), abs(b.outward)) > _BIASED and b.noise < 6
    if rounded_down and not all(codec == "f32" for codec in codecs):
        way = "towards zero" if b.outward < -_BIASED else "down" if b.bias < 0 else "up"
        by = max(abs(b.bias), abs(b.outward)) / 2
        phrase = f"is rounded {way} by {by:.2g} of a step in the mean, in place of to the nearest"
        return one.outcome(
            "different", "weights.quantization", f"rounding {way}", phrase, {"bias": b.bias, "outward": b.outward}
        )
    codec = codecs[1]
    size = 256 if codec.endswith("_k") else _PLAIN_BLOCK
    places = damage(one.reference, one.candidate, pool, block=size)
    is_local = places.n_damaged <= max(1, _LOCAL * places.n_blocks)
    is_same = vectors_same and abs(b.cosine) > _SAME_WEIGHTS
    where = _places(places, size, one)
    if is_block_codec(codec) and (is_local or is_same):
        phrase = (
            f"differs by more than the rounding of {codec} explains in {places.n_damaged} of {places.n_blocks} blocks, "
            f"by {abs(b.worst[3]):.3g} where {b.worst[4]:.3g} is allowed (row {b.worst[1]}, column {b.worst[2]})"
        )
        phrase += "" if is_local else ": badly quantised, or made of other weights"
        kind = "local" if is_local else f"dense {codec}"
        return one.outcome("different", "weights.quantization", kind, phrase, where)
    if is_local:
        phrase = (
            f"differs in {b.n_beyond} of {b.n} values, by up to {b.max_abs:.3g} (row {b.worst[1]}, column {b.worst[2]})"
        )
        return one.outcome("different", "weights.unexplained", "local", phrase, where)
    return one.outcome("different", "weights.unexplained", "other", _figures(b), where)


def _places(places: Damage, size: int, one: _Measured) -> dict[str, Any]:
    if not places.first:
        return {}
    per_row = -(-one.candidate.shape[1] // size)
    row, block = places.first[0]
    return {
        "row": row,
        "block": row * per_row + block,
        "block_size": size,
        "n_blocks": places.n_damaged,
        "blocks": [r * per_row + b for r, b in places.first],
    }


def _figures(b: Judgement) -> str:
    share = b.n_beyond / b.n if b.n else 1.0
    return (
        f"holds other values: relative L2 {b.rel_l2:.3g}, cosine {b.cosine:.4g}, {share:.1%} of the values beyond rounding; "
        "no single transform explains it"
    )


def _of_head(counted: Census, one: _Measured, outcome: Outcome) -> Outcome:
    """A head that is wrong only because it is, or is not, the embedding."""
    if one.name != HEAD or outcome.cause is None:
        return outcome
    theirs_tied = counted.reference.config.tie_word_embeddings
    if theirs_tied:
        phrase = f"should be the embedding, to which the reference ties it, and is not: it {outcome.phrase}"
    elif outcome.where.get("other") == EMBEDDING or one.match.candidate is counted.candidate.tensors.get(EMBEDDING):
        phrase = "is the embedding; the reference has a head of its own"
    else:
        return outcome
    return replace(outcome, cause="weights.tied", kind="tied", phrase=phrase)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
