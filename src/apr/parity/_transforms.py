"""What was done to a tensor that rounding does not explain: exact transforms, the cheapest first.

A transform is read off from sums and projections (`_weights_measures.survey`), applied to the reference, and believed
only if what is left is rounding again: by the bounds of both encodings, not by equality, so that a transform is found
behind a quantisation too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apr.models._config import ModelConfig
from apr.parity import _block_faults, _permutations
from apr.parity._causes import Cause
from apr.parity._weights_measures import Judgement, Pool, Sums, Survey, judge_whole, survey
from apr.parity._weights_rows import Readable, Transform, Transformed

# a factor is the slope of quantised values: half steps that its error may add
_SLACK = 0.4
# share of the relative rounding error that a fitted factor may be off by
_NEAR = 0.4
# values that a transform may leave beyond the bound, and how many times fewer they must have become
_MOST_BEYOND = 1e-3
_BETTER = 10
# a row that was scaled still points where it did: 2-bit rounding leaves a cosine of 0.95
_SAME_DIRECTION = 0.8
# a matrix is held whole to be turned round, or reshaped: 256 MiB
_MOST_WHOLE = 1 << 26
# fewer values than this point the same way by chance
_LEAST_ALIKE = 256
# fewer values than this fit some factor by chance
_LEAST_FITTED = 8

_LAYOUT = {
    "interleaved": " (the rotary layout of Llama GGUF files, applied once too often or not undone)",
    "deinterleaved": " (the rotary layout of Llama GGUF files, not applied or undone once too often)",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was done.

    kind:    for grouping: tensors with one cause and kind have one defect
    phrase:  what follows "it": "is scaled by 2"
    where:   factor, other, order, rows, columns, heads …
    """

    cause: Cause
    kind: str
    phrase: str
    where: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One tensor to explain.

    name:    canonical
    before:  what was measured without a transform
    file_order: int64 [rows], where the candidate's file holds its rows otherwise: row i is the file's row file_order[i]
    """

    name: str
    reference: Readable
    candidate: Readable
    before: Judgement
    config: ModelConfig
    pool: Pool
    file_order: np.ndarray | None = None

    @property
    def is_vector(self) -> bool:
        """Whether the tensor has one dimension."""
        return self.candidate.shape[0] == 1

    @property
    def noun(self) -> str:
        """What a vector's columns are called."""
        return "values" if self.is_vector else "columns"

    @property
    def slack(self) -> float:
        """What a fitted factor may add. Values that were cut off in place of rounded are smaller by nearly a factor."""
        b = self.before
        looks_cut = 0.7 < max(abs(b.bias), abs(b.outward)) < 1.3 and 1.6 < b.noise < 2.4
        return _SLACK / 4 if looks_cut else _SLACK

    def fits(self, transform: Transform) -> bool:
        """Whether rounding explains what the transform leaves."""
        with np.errstate(all="ignore"):
            after = judge_whole(Transformed(self.reference, transform), self.candidate, self.pool, slack=self.slack)
        most = _MOST_BEYOND * after.n
        if self.before.n:  # else the shapes differ, and nothing could be measured before
            most = min(most, self.before.n_beyond / _BETTER)
        return after.n_nonfinite == 0 and after.n_beyond <= most

    def resembles(self, transform: Transform) -> bool:
        """Whether the transform makes of two strangers two tensors that point the same way: there was more than one rounding."""
        after = judge_whole(Transformed(self.reference, transform), self.candidate, self.pool)
        return (
            after.n >= _LEAST_ALIKE and after.cosine > _SAME_DIRECTION and abs(self.before.cosine) < 1 - _SAME_DIRECTION
        )

    def heads(self, axis: str) -> int | None:
        """How many heads lie along the "rows" or "columns" of the tensor, if it is made of heads."""
        module = self.name.split(".")[-2] if "." in self.name else ""
        along = "columns" if module == "o_proj" or self.is_vector else "rows"
        if axis != along or (module == "o_proj" and self.is_vector):
            return None
        q, kv = self.config.num_attention_heads, self.config.num_key_value_heads
        return {"q_proj": q, "k_proj": kv, "v_proj": kv, "o_proj": q, "qkv_proj": q + 2 * kv}.get(module)


def explain(case: Case) -> Explanation | None:
    """The transform that makes the difference rounding again; None if none of those tried does."""
    if not case.before.n:
        return _turned(case)
    if found := _whole(case):
        return found
    seen = survey(case.reference, case.candidate, case.pool)
    for attempt in (_along_rows, _along_columns, _transposed, _rows_permuted, _columns_permuted, _reread, _packed):
        if found := attempt(case, seen):
            return found
    return None


def _whole(case: Case) -> Explanation | None:
    """All values alike: zero, multiplied, added to."""
    b = case.before
    if not b.sum_candidate2:
        return Explanation("weights.zeroed", "whole", "is zero throughout")
    mean = b.sum_difference / b.n
    ideal = float(round(mean)) if abs(mean - round(mean)) < 1e-3 and round(mean) else mean
    is_constant = 2 * mean * b.sum_difference > b.sum_difference2  # most of the difference is its mean
    if is_constant and case.fits(Transform(offset=ideal)):
        words = (
            f"has {ideal:.6g} added to every value" if ideal > 0 else f"has {-ideal:.6g} taken away from every value"
        )
        return Explanation("weights.offset", f"{ideal:.3g}", words, {"offset": ideal})
    if not b.sum_reference2 or abs(b.cosine) < _SAME_DIRECTION:
        return None
    factor = b.sum_product / b.sum_reference2
    if _plain(factor, case) == 1.0:
        return None
    if case.fits(Transform(factor=factor)):
        shown = _plain(factor, case)
        return Explanation("weights.scaled", f"{shown:.3g}", f"is scaled by {shown:.6g}", {"factor": shown})
    return None


def _noise(case: Case) -> float:
    """What rounding leaves of the tensor's values, relative: the error of a slope is a small part of it."""
    b = case.before
    return math.sqrt(b.sum_half2 / 3 / b.sum_reference2) if b.sum_reference2 else 0.0


def _plain(factor: float, case: Case) -> float:
    """A factor without the noise of its estimate, where a simple fraction or power is meant."""
    for simple in (*(2.0**k for k in range(-8, 9)), 1.5, 3.0, 10.0, 0.1, 1 / 3):
        if math.isclose(abs(factor), simple, rel_tol=max(1e-6, _NEAR * _noise(case))):
            return math.copysign(simple, factor)
    return factor


def _along_rows(case: Case, seen: Survey) -> Explanation | None:
    return None if case.is_vector else _by_line(case, seen.rows, "rows")


def _along_columns(case: Case, seen: Survey) -> Explanation | None:
    return _by_line(case, seen.columns, "columns")


def _by_line(case: Case, sums: Sums, axis: str) -> Explanation | None:
    """Rows or columns that are zero, or have factors of their own; the others must be right as they are."""
    differing = np.flatnonzero(sums.n_beyond)
    length = case.candidate.shape[1 if axis == "rows" else 0]
    zero = differing[sums.candidate2[differing] == 0]
    scaled = differing[sums.candidate2[differing] != 0]
    if length < _LEAST_FITTED and scaled.size:
        return None
    factors = np.ones(sums.product.size)
    factors[zero] = 0.0
    with np.errstate(all="ignore"):
        factors[scaled] = sums.product[scaled] / sums.reference2[scaled]
        cosine = sums.product[scaled] / np.sqrt(sums.reference2[scaled] * sums.candidate2[scaled])
    if not (np.abs(cosine) > _SAME_DIRECTION).all() or not differing.size:
        return None
    spread_out = max(1e-5, 2 * _NEAR * _noise(case)) * np.abs(factors[scaled]).max(initial=0)
    if scaled.size and not zero.size and np.abs(factors[scaled] - 1).max() < spread_out:
        return None
    if scaled.size and np.ptp(factors[scaled]) < spread_out:
        factors[scaled] = float(np.sum(sums.product[scaled]) / np.sum(sums.reference2[scaled]))
    spread = factors.astype(np.float32).reshape((-1, 1) if axis == "rows" else (1, -1))
    if not case.fits(Transform(factor=spread)):
        return None
    where = _lines(case, axis, zero if zero.size else scaled)
    if zero.size:
        return Explanation("weights.zeroed", f"{axis} {where['in_words']}", f"is zero in {where['in_words']}", where)
    least, most = float(factors[scaled].min()), float(factors[scaled].max())
    if least == most:
        where["factor"] = _plain(least, case)
        words = f"is scaled by {where['factor']:.6g} in {where['in_words']}"
    else:
        where["factor"] = [least, most]
        words = f"is scaled by {least:.6g} to {most:.6g} in {where['in_words']}"
    return Explanation("weights.scaled", f"{axis} {where['in_words']}", words, where)


def _lines(case: Case, axis: str, indices: np.ndarray) -> dict[str, Any]:
    """Which rows or columns, as heads where they are whole heads."""
    count = case.candidate.shape[0 if axis == "rows" else 1]
    noun = axis if axis == "rows" else case.noun
    heads = case.heads(axis)
    if heads and count % heads == 0 and indices.size and indices.size < count:
        head_dim = count // heads
        touched = np.unique(indices // head_dim)
        if touched.size * head_dim == indices.size:
            words = f"head{'s' if touched.size > 1 else ''} {_permutations.ranges(touched)}"
            return {"heads": touched.tolist(), "in_words": words}
    every = "every row" if axis == "rows" else f"every {noun[:-1]}"
    words = every if indices.size == count else f"{indices.size} of {count} {noun} ({_permutations.ranges(indices)})"
    return {noun: indices[:64].tolist(), "in_words": words}


def _transposed(case: Case, seen: Survey) -> Explanation | None:
    rows, columns = case.candidate.shape
    if rows != columns or rows < 2:
        return None
    # of a square matrix both sides are projected by the same numbers: the rows of the transposed are the columns
    turned, own = seen.reference_columns, seen.candidate_rows
    if np.sum((turned - own) ** 2) <= _permutations.ALIKE * np.sum(own**2):
        return _turned(case)
    if case.file_order is None or rows * columns > _MOST_WHOLE:
        return None
    # turned as it lies in the file, whose rows have another order
    inverse = np.argsort(case.file_order)
    if not case.fits(Transform(is_transposed=True, rows=case.file_order, columns=inverse)):
        return None
    return Explanation(
        "weights.transposed", "transposed", "is transposed as it lies in the file", {"order": "transposed"}
    )


def _turned(case: Case) -> Explanation | None:
    """Along its other side, or with the same values cut into rows of another length."""
    (rows, columns), theirs = case.candidate.shape, case.reference.shape
    if rows * columns > _MOST_WHOLE or rows * columns != theirs[0] * theirs[1] or min(rows, columns) < 2:
        return None
    if theirs == (columns, rows) and case.fits(Transform(is_transposed=True)):
        return Explanation("weights.transposed", "transposed", "is transposed", {"order": "transposed"})
    if theirs == (columns, rows) and case.resembles(Transform(is_transposed=True)):
        words = "is transposed, and was rounded more than once"
        return Explanation("weights.transposed", "transposed", words, {"order": "transposed"})
    if theirs != case.candidate.shape and case.fits(Transform(shape=case.candidate.shape)):
        words = f"says that it is [{rows}, {columns}], while its values lie as in the reference's [{theirs[0]}, {theirs[1]}]"
        return Explanation("weights.transposed", "shape", words, {"order": "shape"})
    return None


def _reread(case: Case, seen: Survey) -> Explanation | None:
    """The transposed matrix's values, cut into rows of this one's length."""
    del seen
    rows, columns = case.candidate.shape
    if rows == columns or min(rows, columns) < 2 or rows * columns > _MOST_WHOLE:
        return None
    if not case.fits(Transform(is_transposed=True, shape=case.candidate.shape)):
        return None
    words = "lies in the file transposed, under the shape that it should have"
    return Explanation("weights.transposed", "values", words, {"order": "values"})


def _packed(case: Case, seen: Survey) -> Explanation | None:
    """A fault of the packing, the same in every block."""
    del seen
    found = _block_faults.find(case.reference, case.candidate, n_beyond=case.before.n_beyond)
    return None if found is None else Explanation("weights.quantization", found.kind, found.phrase)


def _rows_permuted(case: Case, seen: Survey) -> Explanation | None:
    if case.is_vector:
        return None
    differing = np.flatnonzero(seen.rows.n_beyond)
    order = _permutations.match(seen.reference_rows, seen.candidate_rows, differing)
    if order is None or not case.fits(Transform(rows=order)):
        return None
    return _named(case, order, "rows")


def _columns_permuted(case: Case, seen: Survey) -> Explanation | None:
    if not case.is_vector:
        differing = np.flatnonzero(seen.columns.n_beyond)
        order = _permutations.match(seen.reference_columns, seen.candidate_columns, differing)
        return _named(case, order, "columns") if order is not None and case.fits(Transform(columns=order)) else None
    for order in _vector_orders(case):
        if case.fits(Transform(columns=order)):
            return _named(case, order, "columns")
    return None


def _vector_orders(case: Case) -> Iterator[np.ndarray]:
    yield from _permutations.known(case.candidate.shape[1], case.heads("columns"))
    whole = slice(0, 1)
    yield _permutations.match_values(case.reference.read(whole).values[0], case.candidate.read(whole).values[0])


def _named(case: Case, order: np.ndarray, axis: str) -> Explanation:
    noun, heads = axis if axis == "rows" else case.noun, case.heads(axis)
    named = _permutations.name(order, head_dim=order.size // heads if heads else None, noun=noun)
    moved = np.flatnonzero(order != np.arange(order.size))
    where = {"order": named.kind, "along": axis, noun: moved[:64].tolist(), "from": order[moved][:64].tolist()}
    if named.kind == "blocks" and axis == "columns":
        words = f"has its values in another order within blocks, as if packed bits were read wrongly: {named.phrase}"
        return Explanation("weights.quantization", "packing", words, where)
    words = f"is permuted: {named.phrase}{_LAYOUT.get(named.kind, '') if heads else ''}"
    return Explanation("weights.permuted", f"{axis} {named.kind}", words, where)
