"""Encoders of the types with 32 elements a block: Q4_0, Q4_1, Q5_0, Q5_1. Without an importance nothing is searched."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants import _fit
from apr.kernels.quants._ggml import Importance


def signed(values: np.ndarray, importance: Importance | None, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale, float32 [n_blocks], and quants 0 .. 2 * bound - 1, uint8 [n_blocks, 32].

    ggml-quants.c, quantize_row_q4_0_ref and quantize_row_q5_0_ref: the largest magnitude becomes 0, which is -bound.
    """
    if importance is not None:
        scales, found = _fit.signed(np.ascontiguousarray(values.T), _weights(values, importance), bound)
        return scales, found.T.astype(np.uint8)
    scales = _fit.largest_magnitude(np.ascontiguousarray(values.T))[0] / np.float32(-bound)
    scaled = values * _fit.inverse(scales)[:, None]
    return scales, np.minimum(_truncated(scaled + np.float32(bound + 0.5)), 2 * bound - 1).astype(np.uint8)


def with_minimum(
    values: np.ndarray, importance: Importance | None, top: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale and minimum (x = scale * q + minimum), float32 [n_blocks], and quants 0 .. top, uint8 [n_blocks, 32].

    ggml-quants.c, quantize_row_q4_1_ref and quantize_row_q5_1_ref: the quants span the block from end to end.
    """
    columns = np.ascontiguousarray(values.T)
    if importance is not None:
        scales, minima, found = _fit.with_minimum(
            columns, _weights(values, importance), top, first=-0.9, step=0.05, n_steps=36, is_guarded=True
        )
        return scales, -minima, found.T.astype(np.uint8)
    low, high = _fit.extremes(columns)
    scales = (high - low) / np.float32(top)
    scaled = (values - low[:, None]) * _fit.inverse(scales)[:, None]
    return scales, low, np.minimum(_truncated(scaled + np.float32(0.5)), top).astype(np.uint8)


def _truncated(numbers: np.ndarray) -> np.ndarray:
    """int32; what is not finite becomes 0, as ggml's conversion to a byte makes of it."""
    return np.where(np.isfinite(numbers), numbers, np.float32(0)).astype(np.int32)


def _weights(values: np.ndarray, importance: Importance) -> np.ndarray:
    squares = importance.mean_squares[:, None] + np.square(values)
    return np.ascontiguousarray((importance.of_elements * np.sqrt(squares)).T)
