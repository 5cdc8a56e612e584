"""BF16: the upper half of an F32, little-endian."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants._block import BlockCodec


class Codec(BlockCodec):
    """Two bytes a value."""

    name = "bf16"
    block_size = 1
    block_bytes = 2
    ggml_type = 30
    apr_dtype = 30

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n, 1]: exact."""
        bits = out.view(np.uint32)
        np.copyto(bits, blocks.view("<u2"))
        np.left_shift(bits, 16, out=bits)

    def encode_blocks(self, values: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n, 2]: to the nearest, ties to even, too large to infinity, any NaN to a quiet one.

        Source  ggml-impl.h, ggml_compute_fp32_to_bf16.
        """
        bits = values.view(np.uint32)
        rounded = bits >> 16
        np.bitwise_and(rounded, 1, out=rounded)
        np.add(rounded, 0x7FFF, out=rounded)
        np.add(rounded, bits, out=rounded)
        # rounding would carry a NaN's fraction away
        np.bitwise_or(bits, 1 << 22, out=rounded, where=np.isnan(values))
        np.right_shift(rounded, 16, out=rounded)
        np.copyto(out.view("<u2"), rounded, casting="same_kind")
