"""Two tensors measured against each other, in chunks of rows: how far apart, and what of that rounding explains.

`judge` is the cheap pass over every tensor whose bytes differ. `survey` is the pass over those that rounding does not
explain: sums by row and by column, and random projections of rows and columns, from which transforms are read off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import numpy as np

from apr.parity._refitted_blocks import are_refitted
from apr.parity._rounding_bounds import Allowance
from apr.parity._weights_rows import Readable, Rows, chunks

# of the projections of a row: two unrelated rows look alike within a tenth with a chance under 1e-6
N_PROJECTIONS = 32
# half a unit of BF16, as a share of the value: the coarsest type that a model is decoded to before it is quantised again
INTERMEDIATE = 2.0**-8
# share of the values beyond the bound from which a tensor is not looked at for refitted blocks: honest ones have 0.01
_MOST_REFITTED = 0.05
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was measured of candidate - reference; sums are over the values that are finite on both sides.

    n_beyond:        values that differ by more than both encodings' rounding explains together
    n_beyond_own:    by more than the candidate's rounding explains alone: it was not made from this reference, or wrongly
    n_refitted, n_refitted_own:  those of them that a scale of their block's own explains; see `_refitted_blocks`
    n_refitted_blocks, n_refitted_rows:  the blocks of these, and the rows most of whose blocks they are
    n_nonfinite:     of the candidate where the reference is finite
    worst:           the largest of (difference - bound), and its row, column, difference, bound, reference value
    first_nonfinite: row and column
    sum_outward:     candidate - reference where the reference is positive, less where it is negative
    sum_half, sum_half_reference:  half steps of both encodings together, and of the reference's
    """

    n: int = 0
    n_differing: int = 0
    n_beyond: int = 0
    n_beyond_own: int = 0
    n_refitted: int = 0
    n_refitted_own: int = 0
    n_refitted_blocks: int = 0
    n_refitted_rows: int = 0
    n_nonfinite: int = 0
    sum_difference2: float = 0.0
    sum_reference2: float = 0.0
    sum_candidate2: float = 0.0
    sum_product: float = 0.0
    sum_difference: float = 0.0
    sum_outward: float = 0.0
    sum_half: float = 0.0
    sum_half_reference: float = 0.0
    sum_half2: float = 0.0
    max_abs: float = 0.0
    worst: tuple[float, int, int, float, float, float] = (-math.inf, 0, 0, 0.0, 0.0, 0.0)
    first_nonfinite: tuple[int, int, float] | None = None

    @property
    def rel_l2(self) -> float:
        """Relative L2 distance; infinite from a reference of zeros."""
        return _ratio(self.sum_difference2, self.sum_reference2)

    @property
    def noise(self) -> float:
        """Root mean square of the difference, in that of plain rounding: 1 for honest rounding to the nearest."""
        return _ratio(self.sum_difference2, self.sum_half2 / 3)

    @property
    def bias(self) -> float:
        """Mean of the difference in half steps: 0 for rounding to the nearest, -1 for rounding down."""
        return self.sum_difference / self.sum_half if self.sum_half else 0.0

    @property
    def outward(self) -> float:
        """Mean of the difference away from zero in half steps: -1 for values cut off in place of rounded."""
        return self.sum_outward / self.sum_half if self.sum_half else 0.0

    @property
    def cosine(self) -> float:
        """Cosine of the two tensors; 0 if one of them is zero."""
        norms = math.sqrt(self.sum_reference2 * self.sum_candidate2)
        return self.sum_product / norms if norms else 0.0


def _ratio(error2: float, size2: float) -> float:
    if not error2:
        return 0.0
    return math.sqrt(error2 / size2) if size2 else math.inf


def judge(reference: Readable, candidate: Readable, rows: slice, *, slack: float = 0.0) -> Judgement:
    """Measure some rows.

    slack:  widens every bound by so many half steps: for a transform whose factor was estimated
    """
    ours, theirs = candidate.read(rows), reference.read(rows)
    c, r = ours.values, theirs.values
    if np.array_equal(c, r):
        flat = r.reshape(-1)
        size2 = _dot(flat, flat)
        return Judgement(n=r.size, sum_reference2=size2, sum_candidate2=size2, sum_product=size2)
    with np.errstate(all="ignore"):
        return _measured(c, r, ours, theirs, rows.start, slack)


def _measured(c: np.ndarray, r: np.ndarray, ours: Rows, theirs: Rows, start: int, slack: float) -> Judgement:
    difference = c - r
    bad, first = 0, None
    total = float(difference.sum(dtype=np.float64))
    is_finite = None
    if not math.isfinite(total):  # a sum is cheaper than a look at every value, and shows as much
        is_finite = np.isfinite(difference)
        lost = np.isfinite(r) & ~np.isfinite(c)
        bad = int(np.count_nonzero(lost))
        if bad:
            row, column = divmod(int(np.argmax(lost)), r.shape[1])
            first = (start + row, column, float(r[row, column]))
        difference, r, c = (np.where(is_finite, part, np.float32(0)) for part in (difference, r, c))
        total = float(difference.sum(dtype=np.float64))
    half = np.broadcast_to(ours.allowance.half + theirs.allowance.half, r.shape)
    up, down = ours.allowance.below, ours.allowance.above
    if slack:
        up, down = up + half * np.float32(slack), down + half * np.float32(slack)
    size = np.abs(difference)
    found: dict[str, Any] = {}
    at = int(np.argmax(size))
    worst = -float(np.broadcast_to(up, r.shape).reshape(-1)[at])
    suspects = np.flatnonzero(size > np.minimum(up, down))  # few: the ends of the grid, which differ in one direction
    if suspects.size:
        at, worst, found = _suspected(suspects, difference, (up, down), c, r, ours, theirs)
    row, column = divmod(at, r.shape[1])
    moved, largest = float(difference[row, column]), float(size.max(initial=0.0))
    d, rf, cf, halves = difference.reshape(-1), r.reshape(-1), c.reshape(-1), half.reshape(-1)
    sum_half = float(halves.sum(dtype=np.float64))
    if not math.isfinite(sum_half):
        halves = np.where(np.isfinite(halves), halves, np.float32(0))
        sum_half = float(halves.sum(dtype=np.float64))
    return Judgement(
        n=r.size,
        n_differing=int(np.count_nonzero(d)),
        n_nonfinite=bad,
        sum_difference2=_dot(d, d),
        sum_reference2=_dot(rf, rf),
        sum_candidate2=_dot(cf, cf),
        sum_product=_dot(rf, cf),
        sum_difference=total,
        sum_outward=float(np.copysign(d, d * rf).sum(dtype=np.float64)),
        sum_half=sum_half,
        sum_half_reference=_sum_of_half(theirs, r),
        sum_half2=_dot(halves, halves),
        max_abs=largest,
        worst=(worst, start + row, column, moved, abs(moved) - worst, float(r[row, column])),
        first_nonfinite=first,
        **found,
    )


def _sum_of_half(rows: Rows, values: np.ndarray) -> float:
    half = rows.allowance.half
    total = float(half.sum(dtype=np.float64)) * (values.size / max(1, half.size))
    return total if math.isfinite(total) else 0.0


def _suspected(
    suspects: np.ndarray,
    difference: np.ndarray,
    allowed: tuple[np.ndarray, np.ndarray],
    c: np.ndarray,
    r: np.ndarray,
    ours: Rows,
    theirs: Rows,
) -> tuple[int, float, dict[str, int]]:
    """Where the worst of the suspected values is, by how much it is beyond, and the counts.

    suspects:  int64, flat indices
    allowed:   the candidate's own bounds upwards and downwards
    """

    def at(part: np.ndarray) -> np.ndarray:
        return part.reshape(-1)[suspects] if part.ndim else part

    (up, down), moved = (at(part) for part in allowed), at(difference)
    # a grid is often laid over half-precision copies of the decoded reference: their rounding comes between
    between = np.abs(at(r)) * np.float32(INTERMEDIATE) if ours.allowance.is_grid else np.float32(0)
    own = (moved > up + between) | (moved < -(down + between))
    excess = np.maximum(moved - (up + at(theirs.allowance.above)), -moved - (down + at(theirs.allowance.below)))
    worst = int(np.argmax(excess))
    counts = {"n_beyond": int(np.count_nonzero(excess > 0)), "n_beyond_own": int(np.count_nonzero(own))}
    counts |= _refitted(suspects[excess > 0], c, r, ours.allowance, theirs.allowance)
    copied = np.abs(r) * np.float32(INTERMEDIATE)
    of_copies = _refitted(suspects[own], c, r, ours.allowance, Allowance(copied, copied, copied))
    counts["n_refitted_own"] = of_copies.get("n_refitted", 0)
    return int(suspects[worst]), float(excess[worst]), counts


def _refitted(beyond: np.ndarray, c: np.ndarray, r: np.ndarray, ours: Allowance, theirs: Allowance) -> dict[str, int]:
    """Of the values beyond the bound, those in blocks that have a scale of their own, and how these blocks lie.

    Whether a tensor has such blocks here and there, as honest files do, or everywhere in a row, is for the caller to judge.

    beyond:  int64, flat indices
    """
    allowed, unsure, points, original = (ours, theirs, c, r) if ours.refitted else (theirs, ours, r, c)
    group = allowed.refitted
    if not group or c.shape[1] % group or not beyond.size or beyond.size > _MOST_REFITTED * c.size:
        return {}
    n_marked = np.bincount(beyond // group, minlength=c.size // group)  # of each block
    at = np.flatnonzero(n_marked)

    def blocks(part: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.broadcast_to(part, c.shape).reshape(-1, group)[at]
        return found

    is_fitted = np.zeros(n_marked.size, dtype=bool)
    is_fitted[at] = are_refitted(blocks(original), unsure.each(blocks), blocks(points), allowed.each(blocks))
    by_row = is_fitted.reshape(c.shape[0], -1)
    mostly = int(np.count_nonzero(by_row.sum(axis=1) * 2 > by_row.shape[1])) if by_row.shape[1] > 1 else 0
    return {
        "n_refitted": int(n_marked[is_fitted].sum()),
        "n_refitted_blocks": int(np.count_nonzero(is_fitted)),
        "n_refitted_rows": mostly,
    }


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    # float32 sums of a chunk are good to six digits; the chunks are added in float64
    return float(np.dot(a, b))


def joined(parts: Iterable[Judgement]) -> Judgement:
    """Chunks of one tensor as one."""
    return reduce(_join, parts, Judgement())


def _join(a: Judgement, b: Judgement) -> Judgement:
    sums = {
        name: getattr(a, name) + getattr(b, name)
        for name in Judgement.__dataclass_fields__
        if name.startswith(("n", "sum_"))
    }
    return Judgement(
        **sums,
        max_abs=max(a.max_abs, b.max_abs),
        worst=max(a.worst, b.worst),
        first_nonfinite=a.first_nonfinite or b.first_nonfinite,
    )


def judge_whole(reference: Readable, candidate: Readable, pool: Pool, *, slack: float = 0.0) -> Judgement:
    """Measure all rows."""
    parts = pool.map(lambda rows: judge(reference, candidate, rows, slack=slack), chunks(candidate.shape))
    return joined(parts)


@dataclass
class Sums:
    """By row or by column: float64 [n] each."""

    reference2: np.ndarray
    candidate2: np.ndarray
    product: np.ndarray
    n_beyond: np.ndarray


@dataclass
class Survey:
    """What transforms are read off from.

    rows, columns:            sums along the other axis
    reference_rows, candidate_rows:        float32 [rows, N_PROJECTIONS]
    reference_columns, candidate_columns:  float32 [columns, N_PROJECTIONS], by the same random numbers if square
    """

    rows: Sums
    columns: Sums
    reference_rows: np.ndarray
    candidate_rows: np.ndarray
    reference_columns: np.ndarray
    candidate_columns: np.ndarray


@dataclass
class _Part:
    rows: list[np.ndarray]
    columns: list[np.ndarray]


def survey(reference: Readable, candidate: Readable, pool: Pool) -> Survey:
    """Sums and projections of two tensors of one shape; values that are not finite count as zero."""
    n_rows, n_columns = candidate.shape
    along = np.random.default_rng(0).standard_normal((max(n_rows, n_columns), N_PROJECTIONS)).astype(np.float32)

    def part(rows: slice) -> _Part:
        ours, theirs = candidate.read(rows), reference.read(rows)
        c, r = np.nan_to_num(ours.values, posinf=0, neginf=0), np.nan_to_num(theirs.values, posinf=0, neginf=0)
        beyond = _beyond(ours, theirs)
        down, across = along[rows], along[:n_columns]
        by = [np.einsum("ij,ij->i", r, r), np.einsum("ij,ij->i", c, c), np.einsum("ij,ij->i", r, c), beyond.sum(1)]
        over = [np.einsum("ij,ij->j", r, r), np.einsum("ij,ij->j", c, c), np.einsum("ij,ij->j", r, c), beyond.sum(0)]
        return _Part([*by, r @ across, c @ across], [*over, r.T @ down, c.T @ down])

    parts = list(pool.map(part, chunks(candidate.shape)))
    rows = [np.concatenate([p.rows[i] for p in parts]) for i in range(6)]
    columns = [np.asarray(sum(p.columns[i].astype(np.float64) for p in parts)) for i in range(6)]
    return Survey(
        Sums(*(np.asarray(part, dtype=np.float64) for part in rows[:4])),
        Sums(*columns[:4]),
        *(np.asarray(part, dtype=np.float32) for part in (*rows[4:], *columns[4:])),
    )


@dataclass(frozen=True, slots=True)
class Damage:
    """Blocks that hold a value beyond the bound.

    first:  (row, block of the row) of the first few
    """

    n_blocks: int
    n_damaged: int
    n_rows: int
    first: tuple[tuple[int, int], ...]


def damage(reference: Readable, candidate: Readable, pool: Pool, *, block: int, most: int = 16) -> Damage:
    """Where the values beyond the bound are, in blocks of `block` columns."""
    per_row = -(-candidate.shape[1] // block)

    def part(rows: slice) -> np.ndarray:
        beyond = _beyond(candidate.read(rows), reference.read(rows))
        padded = np.zeros((beyond.shape[0], per_row * block), dtype=bool)
        padded[:, : beyond.shape[1]] = beyond
        found: np.ndarray = np.argwhere(padded.reshape(-1, per_row, block).any(axis=2))
        found[:, 0] += rows.start
        return found

    found = np.concatenate(list(pool.map(part, chunks(candidate.shape))))
    first = tuple((int(row), int(at)) for row, at in found[:most])
    return Damage(candidate.shape[0] * per_row, len(found), int(np.unique(found[:, 0]).size), first)


def _beyond(ours: Rows, theirs: Rows) -> np.ndarray:
    with np.errstate(all="ignore"):
        difference = ours.values - theirs.values
        a, b = ours.allowance, theirs.allowance
        found: np.ndarray = (difference > a.below + b.above) | (difference < -(a.above + b.below))
        return found


class Pool:
    """Threads, and results in the order of the questions, with few questions ahead of their answers."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._executor = ThreadPoolExecutor(threads) if threads > 1 else None

    def map(self, function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        """function(item) for each."""
        if self._executor is None:
            yield from map(function, items)
            return
        waiting = []
        for item in items:
            waiting.append(self._executor.submit(function, item))
            if len(waiting) > 4 * self.threads:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()

    def close(self) -> None:
        """End the threads."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
