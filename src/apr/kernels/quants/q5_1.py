"""Q5_1: 32 elements of 5 bits with one F16 scale and one F16 minimum."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants._bits import add_high_bits, field, halves, scale_quants, spread, unpack
from apr.kernels.quants._block import BlockCodec


class Codec(BlockCodec):
    """d, m (F16), 4 bytes: bit i is element i's fifth bit, 16 bytes: nibbles as in Q4_1. x = d * q + m."""

    name = "q5_1"
    block_size = 32
    block_bytes = 24
    ggml_type = 7

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 32]."""
        quants = unpack(field(blocks, 8, 16), 4, width=16)
        add_high_bits(quants, np.unpackbits(field(blocks, 4, 4).reshape(-1), bitorder="little"), 4)
        scales = halves(blocks, 0, 2)
        scale_quants(out, quants, scales[:, 0])
        np.add(out, spread(scales[:, 1], out), out=out)
