"""Which rows of one matrix are which rows of another, and what such an order is called.

A permutation here says where each row of the candidate comes from: row i is the reference's row permutation[i]. Columns
are the rows of the transposed matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from apr.models._checkpoint import deinterleaved_rows, interleaved_rows

# squared distance of two projected rows over the size of one. Unrelated rows are near 2; 2-bit rounding of a row is near 0.1
ALIKE = 0.4
# rows that are looked for among all others; of a larger number only a sample is, and the order must be a shift
MOST_ROWS = 20_000
_SAMPLE = 512
_AT_ONCE = 512
# blocks whose inner order quantisers are known to confuse: nibbles of Q4 and Q5, sub-blocks of K-quants
_BLOCKS = (32, 64, 16, 128, 256)


@dataclass(frozen=True, slots=True)
class Order:
    """What a permutation is called.

    kind:    "interleaved", "deinterleaved", "heads", "halves", "reversed", "shifted", "blocks" or "rows"
    phrase:  the same in words
    """

    kind: str
    phrase: str


def match(reference: np.ndarray, candidate: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """int64 [rows]: where each candidate row comes from; rows that are not wanted stay. None if some come from nowhere.

    reference, candidate:  float32 [rows, n], projections of the rows
    wanted:                int64, the rows that differ; they are looked for among all rows of the reference
    """
    n_rows = candidate.shape[0]
    if wanted.size > MOST_ROWS:
        return _shifted(reference, candidate, wanted)
    order = np.arange(n_rows)
    order[wanted], far = _nearest(reference, candidate[wanted])
    if np.count_nonzero(far > ALIKE) > wanted.size // 100:
        return None
    return order if np.any(order != np.arange(n_rows)) else None


def match_values(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """int64 [n]: the order of a vector's values that makes the two alike, if any does."""
    order = np.empty(candidate.size, dtype=np.int64)
    order[np.argsort(candidate, kind="stable")] = np.argsort(reference, kind="stable")
    return order


def known(n_rows: int, heads: int | None) -> Iterator[np.ndarray]:
    """The orders that converters are known to make, of rows that are `heads` heads."""
    if heads and n_rows % (2 * heads) == 0:
        yield interleaved_rows(n_rows, heads)
        yield deinterleaved_rows(n_rows, heads)
    if n_rows % 2 == 0:
        yield np.roll(np.arange(n_rows), n_rows // 2)


def name(order: np.ndarray, *, head_dim: int | None, noun: str = "rows") -> Order:
    """What an order is called.

    head_dim:  of tensors whose rows are heads, else None
    noun:      "rows" or "columns"
    """
    n = order.size
    places = np.arange(n)
    moved = int(np.count_nonzero(order != places))
    if head_dim and n % head_dim == 0 and (found := _by_heads(order, head_dim, noun)):
        return found
    if n % 2 == 0 and np.array_equal(order, np.roll(places, n // 2)):
        return Order("halves", f"its two halves of {noun} are exchanged")
    if np.array_equal(order, places[::-1]):
        return Order("reversed", f"its {noun} are in reverse order")
    shift = int(order[0])
    if np.array_equal(order, np.roll(places, -shift)):
        by = shift if shift <= n // 2 else shift - n
        return Order("shifted", f"its {noun} are shifted by {by}")
    for block in _BLOCKS:
        if n % block == 0 and n > block and np.array_equal(order // block, places // block):
            inner = order.reshape(-1, block) % block
            if (inner == inner[0]).all():
                first = ", ".join(str(int(i)) for i in inner[0, :4])
                return Order("blocks", f"within each block of {block} {noun} they come as {first} …")
    if np.unique(order).size < n:
        return Order("rows", f"{moved} of {n} {noun} are copies of other {noun}")
    return Order("rows", f"{moved} of {n} {noun} are in other places")


def ranges(indices: np.ndarray, *, most: int = 4) -> str:
    """Indices in words: "3, 8-11"."""
    cuts = np.flatnonzero(np.diff(indices) != 1) + 1
    runs = [(int(run[0]), int(run[-1])) for run in np.split(indices, cuts)]
    shown = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs[:most])
    return f"{shown} and {len(runs) - most} more ranges" if len(runs) > most else shown


def _by_heads(order: np.ndarray, head_dim: int, noun: str) -> Order | None:
    blocks = order.reshape(-1, head_dim)
    from_head, within = blocks // head_dim, blocks % head_dim
    if np.any(from_head != from_head[:, :1]):
        return None
    source, places = from_head[:, 0], np.arange(head_dim)
    heads = np.arange(source.size)
    is_plain = (within == places).all(axis=1)
    if is_plain.all():
        moved = np.flatnonzero(source != heads)
        return Order("heads", f"heads {ranges(moved)} ({head_dim} {noun} each) are in other places")
    if np.any(source != heads):
        return None
    where = "" if not is_plain.any() else f" in heads {ranges(np.flatnonzero(~is_plain))}"
    for kind, pattern, words in (
        ("interleaved", interleaved_rows(head_dim, 1), "the two halves of each head are interleaved"),
        (
            "deinterleaved",
            deinterleaved_rows(head_dim, 1),
            "each head is taken apart as if its halves were interleaved",
        ),
        ("halves", np.roll(places, head_dim // 2), "the two halves of each head are exchanged"),
    ):
        if (within[~is_plain] == pattern).all():
            return Order(kind, f"{words}{where}")
    return None


def _nearest(reference: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row, the nearest of the reference, and their squared distance over the row's own size."""
    sizes = np.einsum("ij,ij->i", reference, reference)
    places, far = np.empty(rows.shape[0], dtype=np.int64), np.empty(rows.shape[0])
    for start in range(0, rows.shape[0], _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        own = np.einsum("ij,ij->i", part, part)
        distance = sizes[None, :] - 2 * (part @ reference.T) + own[:, None]
        best = distance.argmin(axis=1)
        places[start : start + _AT_ONCE] = best
        with np.errstate(all="ignore"):
            far[start : start + _AT_ONCE] = distance[np.arange(best.size), best] / own
    return places, np.nan_to_num(far, nan=0.0, posinf=np.inf)


def _shifted(reference: np.ndarray, candidate: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """A constant shift of all rows, seen in a sample of them."""
    sample = wanted[np.linspace(0, wanted.size - 1, _SAMPLE).astype(np.int64)]
    found, far = _nearest(reference, candidate[sample])
    shifts = (found - sample)[far < ALIKE]
    if shifts.size < _SAMPLE // 2:
        return None
    values, counts = np.unique(shifts, return_counts=True)
    shift = int(values[counts.argmax()])
    if counts.max() < 0.9 * shifts.size or shift == 0:
        return None
    order: np.ndarray = (np.arange(candidate.shape[0]) + shift) % reference.shape[0]
    return order
