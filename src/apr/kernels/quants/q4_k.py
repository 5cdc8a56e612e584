"""Q4_K: super-blocks of 256 elements of 4 bits; each 32 have a 6-bit scale and a 6-bit minimum."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants import _k_minima
from apr.kernels.quants._bits import field, halves, pack, scale_quants, spread, unpack
from apr.kernels.quants._ggml import GgmlCodec, Importance
from apr.kernels.quants._k_scales import scales_and_minima


class Codec(GgmlCodec):
    """d, dmin (F16); 12 bytes of scales and minima; 128 bytes: each 32 hold 32 elements low, then 32 high.

    x = (d * scale) * q - (dmin * minimum). Source: ggml-quants.c, dequantize_row_q4_K.
    """

    name = "q4_k"
    block_size = 256
    block_bytes = 144
    ggml_type = 12
    apr_dtype = 12
    scales_at = (0, 2)

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 256]."""
        factors = halves(blocks, 0, 2)[:, :, None] * scales_and_minima(field(blocks, 4, 12))  # [n_blocks, 2, 8]
        quants = unpack(field(blocks, 16, 128), 4, width=32)
        scale_quants(out, quants, factors[:, 0])
        np.subtract(out, spread(factors[:, 1], out), out=out)

    def quantise(self, values: np.ndarray, importance: Importance | None, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, 144]. Source: ggml-quants.c, quantize_row_q4_K_ref and quantize_row_q4_K_impl."""
        if importance is None:
            fit = _k_minima.fit(values, 15, first=-1, n_steps=20)
        else:
            fit = _k_minima.fit_weighted(values, importance, 15)
        out[:, :16], quants = _k_minima.header_and_quants(values, fit, 15)
        out[:, 16:] = pack(quants, 4, width=32)
