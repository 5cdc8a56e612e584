"""Q5_1: 32 elements of 5 bits with one F16 scale and one F16 minimum."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants import _fit, _simple
from apr.kernels.quants._bits import add_high_bits, field, halves, pack, scale_quants, spread, unpack
from apr.kernels.quants._ggml import GgmlCodec, Importance


class Codec(GgmlCodec):
    """d, m (F16), 4 bytes: bit i is element i's fifth bit, 16 bytes: nibbles as in Q4_1. x = d * q + m."""

    name = "q5_1"
    block_size = 32
    block_bytes = 24
    ggml_type = 7
    scales_at = (0, 2)

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 32]."""
        quants = unpack(field(blocks, 8, 16), 4, width=16)
        add_high_bits(quants, np.unpackbits(field(blocks, 4, 4).reshape(-1), bitorder="little"), 4)
        scales = halves(blocks, 0, 2)
        scale_quants(out, quants, scales[:, 0])
        np.add(out, spread(scales[:, 1], out), out=out)

    def quantise(self, values: np.ndarray, importance: Importance | None, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, 24]. Source: ggml-quants.c, quantize_row_q5_1_ref and quantize_row_q5_1_impl."""
        scales, minima, quants = _simple.with_minimum(values, importance, 31)
        out[:, :4] = _fit.half(np.stack([scales, minima], axis=1)).view(np.uint8)
        out[:, 4:8] = np.packbits(quants >> 4, axis=1, bitorder="little")
        out[:, 8:] = pack(quants & 0x0F, 4, width=16)
