"""Q5_0: 32 elements of 5 bits with one F16 scale."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants import _fit, _simple
from apr.kernels.quants._bits import add_high_bits, centre, field, halves, pack, scale_quants, unpack
from apr.kernels.quants._ggml import GgmlCodec, Importance


class Codec(GgmlCodec):
    """d (F16), 4 bytes: bit i is element i's fifth bit, 16 bytes: nibbles as in Q4_0. x = d * (q - 16)."""

    name = "q5_0"
    block_size = 32
    block_bytes = 22
    ggml_type = 6
    scales_at = (0,)

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 32]."""
        quants = unpack(field(blocks, 6, 16), 4, width=16)
        add_high_bits(quants, np.unpackbits(field(blocks, 2, 4).reshape(-1), bitorder="little"), 4)
        scale_quants(out, centre(quants, 16), halves(blocks, 0))

    def quantise(self, values: np.ndarray, importance: Importance | None, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, 22]. Source: ggml-quants.c, quantize_row_q5_0_ref and quantize_row_q5_0_impl."""
        scales, quants = _simple.signed(values, importance, 16)
        out[:, :2] = _fit.half(scales)[:, None].view(np.uint8)
        out[:, 2:6] = np.packbits(quants >> 4, axis=1, bitorder="little")
        out[:, 6:] = pack(quants & 0x0F, 4, width=16)
