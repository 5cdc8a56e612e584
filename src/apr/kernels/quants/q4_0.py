"""Q4_0: 32 elements of 4 bits with one F16 scale."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants import _fit, _simple
from apr.kernels.quants._bits import centre, field, halves, pack, scale_quants, unpack
from apr.kernels.quants._ggml import GgmlCodec, Importance


class Codec(GgmlCodec):
    """d (F16), 16 bytes: element i in the low nibble of byte i, element i + 16 in the high one. x = d * (q - 8)."""

    name = "q4_0"
    block_size = 32
    block_bytes = 18
    ggml_type = 2
    scales_at = (0,)

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 32]."""
        quants = unpack(field(blocks, 2, 16), 4, width=16)
        scale_quants(out, centre(quants, 8), halves(blocks, 0))

    def quantise(self, values: np.ndarray, importance: Importance | None, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, 18]. Source: ggml-quants.c, quantize_row_q4_0_ref and quantize_row_q4_0_impl."""
        scales, quants = _simple.signed(values, importance, 8)
        out[:, :2] = _fit.half(scales)[:, None].view(np.uint8)
        out[:, 2:] = pack(quants, 4, width=16)
