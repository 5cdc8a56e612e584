"""Q2_K: super-blocks of 256 elements of 2 bits; each 16 have a 4-bit scale and a 4-bit minimum."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants import _fit
from apr.kernels.quants._bits import field, halves, pack, scale_quants, spread, unpack
from apr.kernels.quants._ggml import GgmlCodec, Importance
from apr.kernels.quants._k_fit import (
    blocks_of,
    few_positive,
    few_weighted,
    groups_of,
    importance_of_groups,
    requantise,
)


class Codec(GgmlCodec):
    """16 bytes: scale (low nibble) and minimum (high nibble) of each 16 elements; 64 bytes of quants; d, dmin (F16).

    Each 32 bytes of quants hold 128 elements, 32 in each pair of bits. x = (d * scale) * q - (dmin * minimum).
    Source: ggml-quants.c, dequantize_row_q2_K.
    """

    name = "q2_k"
    block_size = 256
    block_bytes = 84
    ggml_type = 10
    scales_at = (80, 82)

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 256]."""
        packed = field(blocks, 0, 16)
        scales = halves(blocks, 80, 2)
        quants = unpack(field(blocks, 16, 64), 2, width=32)
        scale_quants(out, quants, scales[:, :1] * (packed & 0x0F))
        np.subtract(out, spread(scales[:, 1:] * (packed >> 4), out), out=out)

    def quantise(self, values: np.ndarray, importance: Importance | None, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, 84]. Source: ggml-quants.c, quantize_row_q2_K_ref and quantize_row_q2_K_impl."""
        groups = groups_of(values, 16)
        if importance is None:
            scales, minima, quants = _fit.with_minimum(
                groups, np.abs(groups), 3, first=-0.5, step=0.1, n_steps=15, is_absolute=True
            )
            few_bits = [few_positive(numbers.reshape(-1, 16), 15) for numbers in (scales, minima)]
        else:
            weights = importance_of_groups(values, importance, 16, factor=1)
            scales, minima, quants = _fit.with_minimum(
                groups, weights, 3, first=-0.9, step=0.05, n_steps=36, is_guarded=True
            )
            sums = np.ascontiguousarray(_fit.total(weights).reshape(-1, 16).T)
            few_bits = [few_weighted(numbers.reshape(-1, 16), sums, 15) for numbers in (scales, minima)]
        (d, scale_bits), (dmin, minimum_bits) = few_bits
        packed = (scale_bits | minimum_bits << 4).astype(np.uint8)
        stored = _fit.half(np.stack([d, dmin], axis=1))
        factors = stored[:, :1].astype(np.float32) * (packed & 0x0F)
        offsets = stored[:, 1:].astype(np.float32) * (packed >> 4)
        quants = requantise(groups, quants, factors.reshape(-1), offsets.reshape(-1), low=0, high=3)
        out[:, :16] = packed
        out[:, 16:80] = pack(blocks_of(quants, len(values)), 2, width=32)
        out[:, 80:] = stored.view(np.uint8)
