"""What a packer did to every block of an encoded tensor: a bit of each quant lost, or the block's own constant.

Neither is a transform of the tensor: each block has its own step and its own constant, so they are looked for in the
differences themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from apr.parity._weights_rows import Readable, Rows, chunks

# values that lie in one block, or part of one, of every block codec
_RUN = 16
# half steps that are left of a value's rounding on both sides
_SLACK = 1.25
# values that may fit badly, the ends of a grid, where quantisers cut off: of all, and of those that rounding does not explain
_MOST_BEYOND, _MOST_LEFT = 0.02, 0.1


@dataclass(frozen=True, slots=True)
class BlockFault:
    """What was done, and in words what follows "it"."""

    kind: str
    phrase: str


def find(reference: Readable, candidate: Readable, *, n_beyond: int) -> BlockFault | None:
    """The fault of the packing that explains the whole difference; None for none, and for what is not packed in blocks.

    n_beyond:  values that rounding alone does not explain
    """
    if reference.shape != candidate.shape or not candidate.read(slice(0, 1)).allowance.is_grid:
        return None
    bits: set[int] = set()
    most = min(_MOST_BEYOND * candidate.shape[0] * candidate.shape[1], _MOST_LEFT * n_beyond)
    if _explains(reference, candidate, most, lambda ours, theirs: _beyond_bits(ours, theirs, bits)) and len(bits) == 1:
        bit = bits.pop()
        return BlockFault("bit", f"has lost, or gained, bit {bit} of its quants")
    if candidate.shape[1] % _RUN == 0 and _explains(reference, candidate, most, _beyond_constants):
        return BlockFault(
            "constant", "is off by a constant of its own in each block: its minimum, or the middle of its grid"
        )
    return None


def _explains(reference: Readable, candidate: Readable, most: float, beyond: Callable[[Rows, Rows], int]) -> bool:
    found = 0
    for rows in chunks(candidate.shape):
        found += beyond(candidate.read(rows), reference.read(rows))
        if found > most:
            return False
    return True


def _beyond_bits(ours: Rows, theirs: Rows, bits: set[int]) -> int:
    """Values whose difference is not 0 or one power of two of their own steps; `bits` takes the powers over 0."""
    difference = ours.values - theirs.values
    half = np.broadcast_to(ours.allowance.half, difference.shape)
    allowed = _SLACK * (half + theirs.allowance.half)
    with np.errstate(all="ignore"):
        steps = np.rint(np.abs(difference) / (2.0 * half))
    steps = np.where(np.abs(difference) <= allowed, 0.0, np.where(np.isfinite(steps), steps, np.inf))
    found, counts = np.unique(steps, return_counts=True)
    # the rounding of a value that lies near the middle of two points may go either way: its count is one off
    main = int(np.argmax(np.where(found > 1, counts, 0)))
    wanted = found[main]
    if not np.isfinite(wanted) or wanted < 2 or np.exp2(np.rint(np.log2(wanted))) != wanted:
        return int((steps != 0).sum())
    bits.add(int(np.log2(wanted)))
    left = np.abs(np.abs(difference) - wanted * 2.0 * half)
    return int(((left > allowed) & (steps != 0)).sum())


def _beyond_constants(ours: Rows, theirs: Rows) -> int:
    """Values that their run's mean difference does not explain."""
    difference = ours.values - theirs.values
    allowed = _SLACK * np.broadcast_to(ours.allowance.half + theirs.allowance.half, difference.shape)
    runs = difference.reshape(difference.shape[0], -1, _RUN)
    left = np.abs(runs - runs.mean(axis=2, keepdims=True)).reshape(difference.shape)
    return int((left > allowed * (1.0 + 1.0 / _RUN)).sum())
