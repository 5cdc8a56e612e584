"""Scales and quants of groups of elements, by the searches of ggml-quants.c, bit for bit.

A group is a column: x is float32 [size, n_groups], so that what the source does one element after the other is here one
row after the other, and every sum is made in its order, in float32. Quants come back as int32 [size, n_groups], scales and
minima as float32 [n_groups]. Values are finite; what overflows on the way does as it would in the source.
"""

from __future__ import annotations

import numpy as np

SMALLEST = np.float32(1e-15)  # GROUP_MAX_EPS: a group of nothing larger counts as zero
ROUNDING = np.float32(12582912.0)  # 1.5 * 2**23: in a sum with it the lowest bit is worth 1
ONE, ZERO, TENTH = np.float32(1), np.float32(0), np.float32(0.1)


def nearest_int(values: np.ndarray) -> np.ndarray:
    """int32: to the nearest, ties to even, below 2**22; beyond, what the source makes of it. ggml-quants.c, nearest_int."""
    found: np.ndarray = ((values + ROUNDING).view(np.int32) & 0x007FFFFF) - 0x00400000
    return found


def half(numbers: np.ndarray) -> np.ndarray:
    """F16 of float32, in the same shape: to the nearest, ties to even."""
    return numbers.astype("<f2")


def inverse(scales: np.ndarray) -> np.ndarray:
    """1 / scale, 0 for a scale of 0; infinite for one under 2**-128."""
    return np.where(scales != 0, ONE / scales, ZERO)


def total(terms: np.ndarray) -> np.ndarray:
    """float32 [n_groups]: 0 + terms[0] + terms[1] …, in this order (NumPy's own sums take others)."""
    out: np.ndarray = ZERO + terms[0]
    for term in terms[1:]:
        out += term
    return out


def largest_magnitude(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first element of the largest magnitude of each group, 0 for a group of zeros; and that magnitude."""
    magnitudes = np.abs(x)
    where = np.nan_to_num(magnitudes, nan=0, posinf=np.inf).argmax(axis=0)[None]
    found, magnitude = np.take_along_axis(x, where, 0)[0], np.take_along_axis(magnitudes, where, 0)[0]
    return np.where(magnitude > 0, found, ZERO), magnitude


def extremes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and most of each group; of zeros of both signs, the first."""
    low, high = x[0].copy(), x[0].copy()
    for row in x[1:]:
        low = np.where(row < low, row, low)
        high = np.where(row > high, row, high)
    return low, high


def signed(x: np.ndarray, weights: np.ndarray, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """x ~ scale * (q - bound) with the least weighted square error of 19 scales. ggml-quants.c, make_qx_quants.

    weights:  float32, the shape of x
    Returns   scale; q in 0 .. 2 * bound - 1, all 0 where the scale is 0 because the group is
    """
    largest, magnitude = largest_magnitude(x)
    weighted = weights * x

    def attempt(inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        quants = np.clip(nearest_int(inverse * x), -bound, bound - 1)
        q = quants.astype(np.float32)
        return quants, total(weighted * q), total(weights * q * q)

    quants, sum_xq, sum_qq = attempt(np.float32(-bound) / largest)
    scale = np.where(sum_qq != 0, sum_xq / sum_qq, ZERO)
    best = scale * sum_xq
    for step in (*range(-9, 0), *range(1, 10)):
        tried, sum_xq, sum_qq = attempt(-(np.float32(bound) + TENTH * np.float32(step)) / largest)
        is_better = (sum_qq > 0) & (sum_xq * sum_xq > best * sum_qq)
        quants = np.where(is_better, tried, quants)
        scale = np.where(is_better, sum_xq / sum_qq, scale)
        best = np.where(is_better, scale * sum_xq, best)
    is_zero = magnitude < SMALLEST
    return np.where(is_zero, ZERO, scale), np.where(is_zero, 0, quants + bound)


def signed_by_turns(x: np.ndarray, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """As `signed` with weights x * x, but each quant in its turn takes the best value beside all others, five times round.

    ggml-quants.c, make_q3_quants.
    """
    largest, magnitude = largest_magnitude(x)
    weights = x * x
    weighted = weights * x
    quants = np.clip(nearest_int(np.float32(-bound) / largest * x), -bound, bound - 1)
    q = quants.astype(np.float32)
    sum_xq, sum_qq = total(weighted * q), total(weights * q * q)
    for _ in range(5):
        for i in range(len(x)):
            old = q[i]
            rest_xq = sum_xq - weighted[i] * old
            rest_qq = sum_qq - weights[i] * old * old
            new = np.clip(nearest_int(x[i] * rest_qq / rest_xq), -bound, bound - 1).astype(np.float32)
            with_xq = rest_xq + weighted[i] * new
            with_qq = rest_qq + weights[i] * new * new
            is_better = (with_qq > 0) & (with_xq * with_xq * sum_qq > sum_xq * sum_xq * with_qq)
            is_better &= (rest_xq > 0) & (new != old)
            q[i] = np.where(is_better, new, old)
            sum_xq = np.where(is_better, with_xq, sum_xq)
            sum_qq = np.where(is_better, with_qq, sum_qq)
    scale = np.where(sum_qq > 0, sum_xq / sum_qq, ZERO)
    is_zero = magnitude < SMALLEST
    return np.where(is_zero, ZERO, scale), np.where(is_zero, 0, q.astype(np.int32) + bound)


def _centred_error(
    x: np.ndarray, weights: np.ndarray, q: np.ndarray, scale: np.ndarray, low: np.ndarray, *, is_absolute: bool
) -> np.ndarray:
    off = scale * q + low - x
    return total(weights * (np.abs(off) if is_absolute else off * off))


def with_minimum(
    x: np.ndarray,
    weights: np.ndarray,
    top: int,
    *,
    first: float,
    step: float,
    n_steps: int,
    is_absolute: bool = False,
    is_guarded: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x ~ scale * q - minimum, minimum >= 0, the least weighted error of fits to the quants of several scales.

    weights:      float32, the shape of x
    first, step:  the scales tried are (high - low) / (top + first + step * i), i = 0 .. n_steps
    is_absolute:  the error is that of magnitudes, not of squares
    is_guarded:   ggml-quants.c, make_qkx3_quants, else make_qkx2_quants: they differ where the best fit's minimum comes
                  so near to the largest element that quants overflow
    Returns       scale; minimum; q in 0 .. top
    """
    low, high = extremes(x)
    sum_w, sum_x = weights[0].copy(), weights[0] * x[0]
    for w, row in zip(weights[1:], x[1:], strict=True):
        sum_w += w
        sum_x += w * row
    low = np.where(low > 0, ZERO, low)
    is_flat = high <= low  # equal: no element is above `high`, and `low` is one of them or 0
    flat_low = low
    inverse = np.float32(top) / (high - low)
    scale = ONE / inverse
    quants = np.clip(nearest_int(inverse * (x - low)), 0, top)
    best = _centred_error(x, weights, quants.astype(np.float32), scale, low, is_absolute=is_absolute)
    for i in range(n_steps + 1):
        inverse = (np.float32(first) + np.float32(step) * np.float32(i) + np.float32(top)) / (high - low)
        steps = inverse * (x - low)
        if is_guarded:
            tried = np.where(steps > 0, nearest_int(np.where(steps < top, steps, np.float32(top))), 0)
        else:
            tried = np.clip(nearest_int(steps), 0, top)
        q = tried.astype(np.float32)
        wq = weights * q
        sum_q, sum_qq, sum_xq = total(wq), total(wq * q), total(wq * x)
        determinant = sum_w * sum_qq - sum_q * sum_q
        its_scale = (sum_w * sum_xq - sum_x * sum_q) / determinant
        its_low = (sum_qq * sum_x - sum_q * sum_xq) / determinant
        is_above = its_low > 0
        its_low = np.where(is_above, ZERO, its_low)
        its_scale = np.where(is_above, sum_xq / sum_qq, its_scale)
        error = _centred_error(x, weights, q, its_scale, its_low, is_absolute=is_absolute)
        is_better = (determinant > 0) & (error < best)
        quants = np.where(is_better, tried, quants)
        best = np.where(is_better, error, best)
        scale = np.where(is_better, its_scale, scale)
        low = np.where(is_better, its_low, low)
    return np.where(is_flat, ZERO, scale), -np.where(is_flat, flat_low, low), np.where(is_flat, 0, quants)


def positive(x: np.ndarray, weights: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """x ~ scale * q with q in 0 .. top: first one of nine scales, then each quant in its turn. For scales and minima.

    ggml-quants.c, make_qp_quants, whose quants are bytes: a negative one comes round at 256.
    """
    high = np.zeros_like(x[0])
    for row in x:
        high = np.where(row > high, row, high)
    inverse = np.float32(top) / high
    quants = (nearest_int(inverse * x) & 0xFF).astype(np.float32)
    best = _scaled_error(x, weights, quants, ONE / inverse)
    for step in (*range(-4, 0), *range(1, 5)):
        tried = (TENTH * np.float32(step) + np.float32(top)) / high
        q = np.minimum(nearest_int(tried * x), top).astype(np.float32)
        error = _scaled_error(x, weights, q, ONE / tried)
        is_better = error < best
        best = np.where(is_better, error, best)
        inverse = np.where(is_better, tried, inverse)
    rounded = np.minimum(nearest_int(inverse * x), top)
    q = rounded.astype(np.float32)
    sum_xq, sum_qq = total(weights * x * q), total(weights * q * q)
    q = (rounded & 0xFF).astype(np.float32)
    for _ in range(5):
        for i, (row, w) in enumerate(zip(x, weights, strict=True)):
            old = q[i]
            rest_xq = sum_xq - w * row * old
            rest_qq = sum_qq - w * old * old
            tried = np.minimum(nearest_int(row * rest_qq / rest_xq), top)
            new = tried.astype(np.float32)
            with_xq = rest_xq + w * row * new
            with_qq = rest_qq + w * new * new
            is_better = (rest_xq > 0) & (rest_qq > 0) & (new != old)
            is_better &= with_xq * with_xq * sum_qq > sum_xq * sum_xq * with_qq
            q[i] = np.where(is_better, (tried & 0xFF).astype(np.float32), old)
            sum_xq = np.where(is_better, with_xq, sum_xq)
            sum_qq = np.where(is_better, with_qq, sum_qq)
    scale = np.where(sum_qq > 0, sum_xq / sum_qq, ZERO)
    is_zero = high < SMALLEST
    return np.where(is_zero, ZERO, scale), np.where(is_zero, 0, q.astype(np.int32))


def _scaled_error(x: np.ndarray, weights: np.ndarray, q: np.ndarray, scale: np.ndarray) -> np.ndarray:
    off = x - scale * q
    return total(weights * off * off)
