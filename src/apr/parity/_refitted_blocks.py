"""Blocks whose points were chosen by another scale than the one that was written.

ggml's importance-weighted Q4_0 Q5_0 choose the points of a block by one scale and write another, fitted to the important
values; Q4_1 Q5_1 do so with scale and minimum (ggml-quants.c, make_qx_quants and make_qkx3_quants). The unimportant
values are then off by far more than half a step, and still every point is the nearest one by the scale that chose it.
That is decided exactly here: either there is such a scale, or there is none.
"""

from __future__ import annotations

import numpy as np

from apr.parity._rounding_bounds import ARITHMETIC, Allowance

# of the chosen scale in the written one: searched in this range. Measured: 1/2 to 3/2
_LEAST, _MOST = 0.45, 1.6
_GOLDEN = (5**0.5 - 1) / 2
_N_NARROWINGS = 32  # the range shrinks by the golden ratio at each: to 2e-7 of it


def are_refitted(original: np.ndarray, unsure: Allowance, points: np.ndarray, allowed: Allowance) -> np.ndarray:
    """bool [n_blocks]: whether a scale in place of the block's own makes every point the nearest to its original.

    original:  float32 [n_blocks, group]
    unsure:    how far the true original may lie from it
    points:    float32 [n_blocks, group], what the codec holds
    allowed:   the codec's allowance, which tells the ends of the grid too; the parts of both spread over the points
    """
    x, y = original.astype(np.float64), points.astype(np.float64)
    least, most = x - unsure.below, x + unsure.above
    half = np.asarray(allowed.half, dtype=np.float64) * (1 + 2 * ARITHMETIC)
    is_first, is_last = allowed.below > allowed.above, allowed.above > allowed.below

    def room(a: np.ndarray) -> np.ndarray:
        """How far from impossible scales of `a` are, at the best offset: concave in `a`, so that one search finds all."""
        a = a[:, None]
        lowest = np.where(is_first, -np.inf, y - half - a * most).max(axis=1)
        highest = np.where(is_last, np.inf, y + half - a * least).min(axis=1)
        found: np.ndarray = np.minimum(highest, -lowest) if allowed.is_centred else highest - lowest
        return found

    low, high = np.full(x.shape[0], _LEAST), np.full(x.shape[0], _MOST)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = room(left), room(right)
    for _ in range(_N_NARROWINGS):
        is_left = at_left >= at_right
        low, high = np.where(is_left, low, left), np.where(is_left, right, high)
        new = np.where(is_left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_new = room(new)
        left, right = np.where(is_left, new, right), np.where(is_left, left, new)
        at_left, at_right = np.where(is_left, at_new, at_right), np.where(is_left, at_left, at_new)
    best = np.maximum(at_left, at_right)
    found: np.ndarray = best >= 0
    return found
