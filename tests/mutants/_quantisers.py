"""Honest quantisers in NumPy for the K codecs that gguf-py reads and does not write: plain rounding, no search.

Each value is rounded to the nearest that the block can hold, with the scales as they are stored. Layouts: ggml-common.h.
`test_mutants.py` decodes what comes of it with gguf-py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_SMALLEST = 1e-12


def q6_k(values: np.ndarray) -> np.ndarray:
    """uint8 [rows, bytes]: 16 groups of 16 values a block, an int8 scale each, one float16 scale over them."""
    x = values.astype(np.float32).reshape(-1, 16, 16)
    peaks = np.abs(x).max(axis=2)
    d = np.maximum(peaks.max(axis=1) / (31.0 * 127.0), _SMALLEST).astype(np.float16)
    d32 = np.maximum(d.astype(np.float32), np.float32(6e-8))[:, None]
    scales = np.clip(np.ceil(peaks / 31.0 / d32), 1, 127).astype(np.int8)
    steps = (d32 * scales)[:, :, None]
    quants = (np.clip(np.round(x / steps), -32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.concatenate(
        [(quants[:, :, 0] & 15) | (quants[:, :, 2] & 15) << 4, (quants[:, :, 1] & 15) | (quants[:, :, 3] & 15) << 4],
        axis=2,
    )
    high = (
        (quants[:, :, 0] >> 4) | (quants[:, :, 1] >> 4) << 2 | (quants[:, :, 2] >> 4) << 4 | (quants[:, :, 3] >> 4) << 6
    )
    n = len(x)
    parts = [low.reshape(n, 128), high.reshape(n, 64), scales.view(np.uint8), d32.astype(np.float16).view(np.uint8)]
    return np.concatenate(parts, axis=1).reshape(values.shape[0], -1)


def q4_k(values: np.ndarray) -> np.ndarray:
    """uint8 [rows, bytes]: 8 groups of 32 values a block, a 6-bit scale and minimum each, two float16 over them."""
    header, quants = _with_minimum(values, levels=15)
    packed = quants.reshape(-1, 4, 2, 32)
    nibbles = (packed[:, :, 0] | packed[:, :, 1] << 4).reshape(len(packed), 128)
    return np.concatenate([header, nibbles], axis=1).reshape(values.shape[0], -1)


def q5_k(values: np.ndarray) -> np.ndarray:
    """uint8 [rows, bytes]: as Q4_K, with a fifth bit in 32 bytes before the nibbles."""
    header, quants = _with_minimum(values, levels=31)
    high = np.zeros((len(quants), 32), dtype=np.uint8)
    for group in range(8):
        high |= (quants[:, group] >> 4) << group
    packed = (quants & 15).reshape(-1, 4, 2, 32)
    nibbles = (packed[:, :, 0] | packed[:, :, 1] << 4).reshape(len(packed), 128)
    return np.concatenate([header, high, nibbles], axis=1).reshape(values.shape[0], -1)


def _with_minimum(values: np.ndarray, *, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [blocks, 16]: both float16 and the packed 6-bit numbers; uint8 [blocks, 8, 32]: the quants."""
    x = values.astype(np.float32).reshape(-1, 8, 32)
    lows = np.maximum(0.0, -x.min(axis=2))
    spans = np.maximum(x.max(axis=2) + lows, _SMALLEST)
    d = np.maximum(spans.max(axis=1) / levels / 63.0, 6e-8).astype(np.float16)
    dmin = np.maximum(lows.max(axis=1) / 63.0, 6e-8).astype(np.float16)
    minimums = np.clip(np.ceil(lows / dmin.astype(np.float32)[:, None]), 0, 63).astype(np.uint8)
    stored = dmin.astype(np.float32)[:, None] * minimums
    # what a rounded-up minimum adds to the span must still fit
    spans = np.maximum(x.max(axis=2) + stored, _SMALLEST)
    scales = np.clip(np.ceil(spans / levels / d.astype(np.float32)[:, None]), 1, 63).astype(np.uint8)
    steps = (d.astype(np.float32)[:, None] * scales)[:, :, None]
    quants = np.clip(np.round((x + stored[:, :, None]) / steps), 0, levels).astype(np.uint8)
    packed = np.zeros((len(x), 12), dtype=np.uint8)
    # ggml-quants.c, get_scale_min_k4: the last four pairs are split over the high bits of the first
    packed[:, 0:4] = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    packed[:, 4:8] = minimums[:, :4] | (minimums[:, 4:] >> 4) << 6
    packed[:, 8:12] = (scales[:, 4:] & 15) | (minimums[:, 4:] & 15) << 4
    header = np.concatenate([d[:, None].view(np.uint8), dmin[:, None].view(np.uint8), packed], axis=1)
    return header, quants


# codec -> GGML type number, encoder
ENCODERS: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "q4_k": (12, q4_k),
    "q5_k": (13, q5_k),
    "q6_k": (14, q6_k),
}
