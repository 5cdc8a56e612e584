"""Q6_K: super-blocks of 256 elements of 6 bits; each 16 have a signed 8-bit scale."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants import _fit
from apr.kernels.quants._bits import add_high_bits, centre, field, halves, pack, scale_quants, unpack
from apr.kernels.quants._ggml import GgmlCodec, Importance
from apr.kernels.quants._k_fit import blocks_of, first_largest, groups_of, requantise


class Codec(GgmlCodec):
    """128 bytes: the lower four bits; 64 bytes: the upper two; 16 signed scales; d (F16).

    Of each 128 elements, 64 bytes hold the first 64 low and the last 64 high; 32 bytes hold 32 in each pair of bits.
    x = (d * scale) * (q - 32). Source: ggml-quants.c, dequantize_row_q6_K.
    """

    name = "q6_k"
    block_size = 256
    block_bytes = 210
    ggml_type = 14
    apr_dtype = 14
    scales_at = (208,)

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 256]."""
        quants = unpack(field(blocks, 0, 128), 4, width=64)
        add_high_bits(quants, unpack(field(blocks, 128, 64), 2, width=32), 4)
        scale_quants(out, centre(quants, 32), halves(blocks, 208) * field(blocks, 192, 16).view(np.int8))

    def quantise(self, values: np.ndarray, importance: Importance | None, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, 210]. Source: ggml-quants.c, quantize_row_q6_K_ref and quantize_row_q6_K_impl."""
        groups = groups_of(values, 16)
        weights = np.square(groups) if importance is None else groups_of(importance.of_elements, 16)
        scales, quants = _fit.signed(groups, weights, 32)
        scales = scales.reshape(-1, 16)
        largest, magnitude = first_largest(scales)
        inverse = np.float32(-128) / largest
        stored = _fit.half(np.float32(1) / inverse)
        few_bits = np.minimum(_fit.nearest_int(inverse[:, None] * scales), 127).astype(np.int8)
        factors = stored.astype(np.float32)[:, None] * few_bits
        quants = blocks_of(requantise(groups, quants, factors.reshape(-1), None, low=-32, high=31), len(values))
        out[:, :128] = pack(quants & 0x0F, 4, width=64)
        out[:, 128:192] = pack(quants >> 4, 2, width=32)
        out[:, 192:208] = few_bits.view(np.uint8)
        out[:, 208:] = stored[:, None].view(np.uint8)
        out[magnitude < _fit.SMALLEST] = 0
