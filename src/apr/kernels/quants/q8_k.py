"""Q8_K: super-blocks of 256 elements of 8 bits with one F32 scale; what ggml makes of activations, rarely in files."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants._bits import field, scale_quants
from apr.kernels.quants._block import BlockCodec


class Codec(BlockCodec):
    """d (F32); 256 signed bytes; 16 sums (I16), each of 16 quants, for dot products only. x = d * q.

    Source: ggml-common.h, block_q8_K; ggml-quants.c, dequantize_row_q8_K.
    """

    name = "q8_k"
    block_size = 256
    block_bytes = 292
    ggml_type = 15

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 256]."""
        scales = blocks[:, :4].view("<f4").astype(np.float32)
        scale_quants(out, field(blocks, 4, 256).view(np.int8), scales)
