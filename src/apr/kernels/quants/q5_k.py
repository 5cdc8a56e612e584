"""Q5_K: super-blocks of 256 elements of 5 bits; each 32 have a 6-bit scale and a 6-bit minimum."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants import _k_minima
from apr.kernels.quants._bits import add_high_bits, field, halves, pack, scale_quants, spread, unpack
from apr.kernels.quants._ggml import GgmlCodec, Importance
from apr.kernels.quants._k_scales import scales_and_minima


class Codec(GgmlCodec):
    """d, dmin (F16); 12 bytes of scales and minima; 32 bytes of fifth bits; 128 bytes of nibbles as in Q4_K.

    Bit j of byte i of the fifth bits belongs to element 32 * j + i. x = (d * scale) * q - (dmin * minimum).
    Source: ggml-quants.c, dequantize_row_q5_K.
    """

    name = "q5_k"
    block_size = 256
    block_bytes = 176
    ggml_type = 13
    scales_at = (0, 2)

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 256]."""
        factors = halves(blocks, 0, 2)[:, :, None] * scales_and_minima(field(blocks, 4, 12))  # [n_blocks, 2, 8]
        quants = unpack(field(blocks, 48, 128), 4, width=32)
        add_high_bits(quants, unpack(field(blocks, 16, 32), 1, width=32), 4)
        scale_quants(out, quants, factors[:, 0])
        np.subtract(out, spread(factors[:, 1], out), out=out)

    def quantise(self, values: np.ndarray, importance: Importance | None, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, 176]. Source: ggml-quants.c, quantize_row_q5_K_ref and quantize_row_q5_K_impl."""
        if importance is None:
            fit = _k_minima.fit(values, 31, first=-0.5, n_steps=15)
        else:
            fit = _k_minima.fit_weighted(values, importance, 31).within_six_bits()
        out[:, :16], quants = _k_minima.header_and_quants(values, fit, 31)
        out[:, 16:48] = pack(quants >> 4, 1, width=32)
        out[:, 48:] = pack(quants & 0x0F, 4, width=32)
