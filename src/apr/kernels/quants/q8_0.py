"""Q8_0: 32 elements of 8 bits with one F16 scale."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants._bits import field, halves, scale_quants
from apr.kernels.quants._block import BlockCodec


class Codec(BlockCodec):
    """d (F16), 32 signed bytes. x = d * q."""

    name = "q8_0"
    block_size = 32
    block_bytes = 34
    ggml_type = 8

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 32]."""
        scale_quants(out, field(blocks, 2, 32).view(np.int8), halves(blocks, 0))
