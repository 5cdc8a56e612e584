"""The 12 bytes of 6-bit scales of the K-quants. Four bytes lie in a word and are unpacked together."""

from __future__ import annotations

import numpy as np

LOW_6, LOW_4, LOW_2 = 0x3F3F3F3F, 0x0F0F0F0F, 0x03030303


def scales_and_minima(packed: np.ndarray) -> np.ndarray:
    """uint8 [n_blocks, 2, 8], the scales and the minima of Q4_K and Q5_K, from uint8 [n_blocks, 12], contiguous.

    Bytes 0..3 hold scales 0..3 in their low six bits, bytes 4..7 minima 0..3; their top two bits are the high bits of
    scales and minima 4..7, whose low four bits are the nibbles of bytes 8..11: ggml-quants.c, get_scale_min_k4.
    """
    words = packed.view(np.uint32)  # [n_blocks, 3]
    low = words[:, 2]
    out = np.empty((packed.shape[0], 4), dtype=np.uint32)
    out[:, 0::2] = words[:, :2] & LOW_6
    out[:, 1] = low & LOW_4
    out[:, 3] = (low >> 4) & LOW_4
    out[:, 1::2] |= ((words[:, :2] >> 6) & LOW_2) << 4
    return out.view(np.uint8).reshape(-1, 2, 8)


def wide_scales(packed: np.ndarray) -> np.ndarray:
    """uint8 [n_blocks, 16], the scales of Q3_K before their offset of 32, from uint8 [n_blocks, 12], contiguous.

    Scale j has its low four bits in a nibble of bytes 0..7 (low nibbles for j < 8, high ones after) and its top two in
    the pair of bits j // 4 of byte 8 + j % 4: ggml-quants.c, dequantize_row_q3_K.
    """
    words = packed.view(np.uint32)  # [n_blocks, 3]
    out = np.empty((packed.shape[0], 4), dtype=np.uint32)
    out[:, :2] = words[:, :2] & LOW_4
    out[:, 2:] = (words[:, :2] >> 4) & LOW_4
    for pair in range(4):
        out[:, pair] |= ((words[:, 2] >> (2 * pair)) & LOW_2) << 4
    return out.view(np.uint8)


def pack_scales_and_minima(scales: np.ndarray, minima: np.ndarray) -> np.ndarray:
    """uint8 [n_blocks, 12] from uint8 [n_blocks, 8] each: what `scales_and_minima` unpacks."""
    first = [numbers[:, :4] | (numbers[:, 4:] >> 4) << 6 for numbers in (scales, minima)]
    return np.concatenate([*first, (scales[:, 4:] & 0x0F) | minima[:, 4:] << 4], axis=1)


def pack_wide_scales(scales: np.ndarray) -> np.ndarray:
    """uint8 [n_blocks, 12] from uint8 [n_blocks, 16]: what `wide_scales` unpacks."""
    low = (scales[:, :8] & 0x0F) | scales[:, 8:] << 4
    high = (scales >> 4).reshape(-1, 4, 4)
    top = high[:, 0] | high[:, 1] << 2 | high[:, 2] << 4 | high[:, 3] << 6
    return np.concatenate([low, top], axis=1)
