"""Q3_K: super-blocks of 256 elements of 3 bits; each 16 have a 6-bit scale."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants import _fit
from apr.kernels.quants._bits import add_high_bits, centre, field, halves, pack, scale_quants, unpack
from apr.kernels.quants._ggml import GgmlCodec, Importance
from apr.kernels.quants._k_fit import blocks_of, first_largest, groups_of, importance_of_groups, requantise
from apr.kernels.quants._k_scales import pack_wide_scales, wide_scales


class Codec(GgmlCodec):
    """32 bytes: the third bit of each element; 64 bytes: the lower two; 12 bytes of scales; d (F16).

    Bit j of byte i of the first field belongs to element 32 * j + i; each 32 bytes of the second hold 128 elements,
    32 in each pair of bits. x = (d * (scale - 32)) * (q - 4). Source: ggml-quants.c, dequantize_row_q3_K.
    """

    name = "q3_k"
    block_size = 256
    block_bytes = 110
    ggml_type = 11
    scales_at = (108,)

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 256]."""
        quants = unpack(field(blocks, 32, 64), 2, width=32)
        add_high_bits(quants, unpack(field(blocks, 0, 32), 1, width=32), 2)
        scale_quants(out, centre(quants, 4), halves(blocks, 108) * centre(wide_scales(field(blocks, 96, 12)), 32))

    def quantise(self, values: np.ndarray, importance: Importance | None, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, 110]. Source: ggml-quants.c, quantize_row_q3_K_ref and quantize_row_q3_K_impl."""
        groups = groups_of(values, 16)
        if importance is None:
            scales, quants = _fit.signed_by_turns(groups, 4)
            scales = scales.reshape(-1, 16)
            largest, magnitude = first_largest(scales)
            inverse = np.float32(-32) / largest
            few_bits = np.clip(_fit.nearest_int(inverse[:, None] * scales), -32, 31) + 32
            few_bits[magnitude == 0] = 0
            stored = _fit.half(np.where(magnitude == 0, np.float32(0), np.float32(1) / inverse))
        else:
            weights = importance_of_groups(values, importance, 16, factor=2)
            scales, quants = _fit.signed(groups, weights, 4)
            sums = np.ascontiguousarray(_fit.total(weights).reshape(-1, 16).T)
            scale, columns = _fit.signed(np.ascontiguousarray(scales.reshape(-1, 16).T), sums, 32)
            few_bits, stored = columns.T, _fit.half(scale)
        factors = stored.astype(np.float32)[:, None] * (few_bits - 32).astype(np.float32)
        quants = blocks_of(requantise(groups, quants, factors.reshape(-1), None, low=-4, high=3), len(values))
        out[:, :32] = pack(quants >> 2, 1, width=32)
        out[:, 32:96] = pack(quants & 3, 2, width=32)
        out[:, 96:108] = pack_wide_scales(few_bits.astype(np.uint8))
        out[:, 108:] = stored[:, None].view(np.uint8)
