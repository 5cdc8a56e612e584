"""Rotary position embedding: the angle tables, and the rotation of split halves (NEOX layout)."""

from __future__ import annotations

import numpy as np


def rope_table(
    positions: np.ndarray, inverse_frequencies: np.ndarray, *, factor: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, float32 [n_tokens, rotary_dim / 2] each.

    positions:            int64 [n_tokens], counted from the start of the sequence
    inverse_frequencies:  float32 [rotary_dim / 2], radians per position
    factor:               multiplies both tables (YaRN and LongRoPE scale attention with it)
    Angles are products of float32 numbers, as in transformers: at long positions the rounding is part of the model.
    """
    angles = positions.astype(np.float32)[:, None] * inverse_frequencies[None, :]
    return np.cos(angles) * np.float32(factor), np.sin(angles) * np.float32(factor)


def rope(x: np.ndarray, table: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Rotate the halves of each head by its position; dimensions beyond the table's pass through.

    x:       float32 [n_tokens, num_heads, head_dim]
    table:   of `rope_table`
    Returns  float32, the shape of x; x is not changed.
    Source   Su et al. 2021, section 3.4; split as in transformers `apply_rotary_pos_emb`.
    """
    cos, sin = (t[:, None, :] for t in table)  # [n_tokens, 1, rotary_dim / 2]
    half = cos.shape[-1]
    first, second = x[..., :half], x[..., half : 2 * half]
    out = np.empty_like(x)
    out[..., :half] = first * cos - second * sin
    out[..., half : 2 * half] = second * cos + first * sin
    out[..., 2 * half :] = x[..., 2 * half :]
    return out
