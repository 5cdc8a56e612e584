"""The base of plain types: one number of a NumPy dtype an element, little-endian, no blocks."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from apr.kernels.quants._block import BlockCodec


class PlainCodec(BlockCodec):
    """A type whose values are converted to float32 as NumPy does: to the nearest, ties to even, too large to infinity.

    dtype:  NumPy's name of the type, little-endian
    """

    block_size = 1
    dtype: ClassVar[str]

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n, 1]."""
        np.copyto(out, blocks.view(self.dtype), casting="same_kind")
