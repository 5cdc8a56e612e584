"""Q6_K: super-blocks of 256 elements of 6 bits; each 16 have a signed 8-bit scale."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants._bits import add_high_bits, centre, field, halves, scale_quants, unpack
from apr.kernels.quants._block import BlockCodec


class Codec(BlockCodec):
    """128 bytes: the lower four bits; 64 bytes: the upper two; 16 signed scales; d (F16).

    Of each 128 elements, 64 bytes hold the first 64 low and the last 64 high; 32 bytes hold 32 in each pair of bits.
    x = (d * scale) * (q - 32). Source: ggml-quants.c, dequantize_row_q6_K.
    """

    name = "q6_k"
    block_size = 256
    block_bytes = 210
    ggml_type = 14
    apr_dtype = 14

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 256]."""
        quants = unpack(field(blocks, 0, 128), 4, width=64)
        add_high_bits(quants, unpack(field(blocks, 128, 64), 2, width=32), 4)
        scale_quants(out, centre(quants, 32), halves(blocks, 208) * field(blocks, 192, 16).view(np.int8))
