"""Q2_K: super-blocks of 256 elements of 2 bits; each 16 have a 4-bit scale and a 4-bit minimum."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants._bits import field, halves, scale_quants, spread, unpack
from apr.kernels.quants._block import BlockCodec


class Codec(BlockCodec):
    """16 bytes: scale (low nibble) and minimum (high nibble) of each 16 elements; 64 bytes of quants; d, dmin (F16).

    Each 32 bytes of quants hold 128 elements, 32 in each pair of bits. x = (d * scale) * q - (dmin * minimum).
    Source: ggml-quants.c, dequantize_row_q2_K.
    """

    name = "q2_k"
    block_size = 256
    block_bytes = 84
    ggml_type = 10

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 256]."""
        packed = field(blocks, 0, 16)
        scales = halves(blocks, 80, 2)
        quants = unpack(field(blocks, 16, 64), 2, width=32)
        scale_quants(out, quants, scales[:, :1] * (packed & 0x0F))
        np.subtract(out, spread(scales[:, 1:] * (packed >> 4), out), out=out)
