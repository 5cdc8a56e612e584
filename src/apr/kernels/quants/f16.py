"""F16: IEEE 754 half precision, little-endian."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants._block import BlockCodec


class Codec(BlockCodec):
    """Two bytes a value."""

    name = "f16"
    block_size = 1
    block_bytes = 2
    ggml_type = 1
    apr_dtype = 1

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n, 1]: exact.

        Normal numbers, nearly all of a model, are moved by integer arithmetic, which is faster than NumPy's conversion;
        that does the rest: zeros, subnormals, infinities, NaNs.
        """
        stored = blocks.view("<i2")
        bits = out.view(np.int32)
        np.copyto(bits, stored)  # the sign is extended, so that it is bit 31 after the shift as well
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, np.int32(0x8FFFE000 - (1 << 32)), out=bits)  # sign, 5 bits of exponent, 10 of fraction
        np.add(bits, np.int32((127 - 15) << 23), out=bits)  # from the bias of half precision to that of single
        odd = stored.view("<u2") + np.uint16(0x0400)  # exponents 31 and 0 become 0 and 1
        np.bitwise_and(odd, np.uint16(0x7800), out=odd)
        where = np.flatnonzero(odd == 0)
        if where.size:
            out.reshape(-1)[where] = stored.reshape(-1)[where].view("<f2")

    def encode_blocks(self, values: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n, 2]: to the nearest, ties to even, too large to infinity, any NaN to a quiet one."""
        target = out.view("<f2")
        np.copyto(target, values, casting="same_kind")
        bits = out.view("<u2")
        # NumPy may keep a signalling NaN; the processors' own conversion, which ggml uses, sets the quiet bit
        np.bitwise_or(bits, np.uint16(0x0200), out=bits, where=np.isnan(values))
