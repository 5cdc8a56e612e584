"""Q3_K: super-blocks of 256 elements of 3 bits; each 16 have a 6-bit scale."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants._bits import add_high_bits, centre, field, halves, scale_quants, unpack
from apr.kernels.quants._block import BlockCodec
from apr.kernels.quants._k_scales import wide_scales


class Codec(BlockCodec):
    """32 bytes: the third bit of each element; 64 bytes: the lower two; 12 bytes of scales; d (F16).

    Bit j of byte i of the first field belongs to element 32 * j + i; each 32 bytes of the second hold 128 elements,
    32 in each pair of bits. x = (d * (scale - 32)) * (q - 4). Source: ggml-quants.c, dequantize_row_q3_K.
    """

    name = "q3_k"
    block_size = 256
    block_bytes = 110
    ggml_type = 11

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 256]."""
        quants = unpack(field(blocks, 32, 64), 2, width=32)
        add_high_bits(quants, unpack(field(blocks, 0, 32), 1, width=32), 2)
        scale_quants(out, centre(quants, 4), halves(blocks, 108) * centre(wide_scales(field(blocks, 96, 12)), 32))
