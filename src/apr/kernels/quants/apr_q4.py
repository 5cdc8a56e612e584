"""APR Q4: aprender's own 4 bits, 32 elements with one F16 scale, in neighbouring nibbles (GGML's Q4_0 differs).

Blocks run over the flat tensor, not over its rows; the last one may be short. aprender reads a scale that is NaN,
infinite or below the smallest normal F16 as zero, and so do we, so that both see the same weights (realizar does not).
"""

from __future__ import annotations

import math

import numpy as np

from apr.kernels.quants._bits import centre, field, halves, scale_quants, unpack
from apr.kernels.quants._block import BlockCodec
from apr.kernels.quants._rounding import round_half_away

SMALLEST_NORMAL = np.float32(2.0**-14)  # of F16


class Codec(BlockCodec):
    """scale (F16), 16 bytes: element 2i in the low nibble of byte i, 2i + 1 in the high one. x = scale * (q - 8)."""

    name = "apr_q4"
    block_size = 32
    block_bytes = 18
    apr_dtype = 128

    def n_bytes(self, n_elements: int) -> int:
        """Bytes that `n_elements` take: any number of them, the last block is filled up."""
        return math.ceil(n_elements / self.block_size) * self.block_bytes

    def row_fits(self, shape: tuple[int, ...]) -> bool:
        """Always: blocks do not end with the rows."""
        return True

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 32]."""
        quants = unpack(field(blocks, 2, 16), 4, width=1)
        scales = halves(blocks, 0)
        usable = np.isfinite(scales) & (np.abs(scales) >= SMALLEST_NORMAL)
        scale_quants(out, centre(quants, 8), np.where(usable, scales, np.float32(0)))

    def encode(self, values: np.ndarray, importance: np.ndarray | None = None) -> np.ndarray:
        """uint8 [n_bytes] from float32 values of any shape; what fills up the last block is zero bits.

        Raises  ValueError if a value is NaN or infinite, or so large that its block's scale is beyond F16.
        """
        del importance
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        missing = -flat.size % self.block_size
        raw = super().encode(np.concatenate([flat, np.zeros(missing, dtype=np.float32)]))
        if missing:
            raw[raw.size - missing // 2 :] = 0
        if missing % 2:
            raw[raw.size - missing // 2 - 1] &= 0x0F
        return raw

    def encode_blocks(self, values: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, 18]. As in aprender, values are divided by the scale before it is rounded."""
        largest = np.abs(values).max(axis=1, keepdims=True, initial=0)
        if not (largest <= 7 * np.float32(np.finfo(np.float16).max)).all():
            raise ValueError(f"magnitude {largest.max()} in a tensor, apr_q4 holds at most 7 * 65504; store it as f32")
        scales = largest / np.float32(7)
        scales[scales == 0] = 1
        np.copyto(out[:, :2].view("<f2"), scales, casting="same_kind")
        quants = (np.clip(round_half_away(values / scales), -8, 7) + 8).astype(np.uint8)
        out[:, 2:] = quants[:, 0::2] | (quants[:, 1::2] << 4)
