"""F32: IEEE 754 single precision, little-endian."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants._plain import PlainCodec


class Codec(PlainCodec):
    """Four bytes a value; decoding is a view where the bytes are aligned."""

    name = "f32"
    block_bytes = 4
    ggml_type = 0
    apr_dtype = 0
    dtype = "<f4"

    def decode(self, raw: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """float32 [shape]: a view of `raw` (read-only if it is) where that is aligned to 4 bytes, else a copy."""
        checked = self._checked(raw, shape)
        aligned = checked if checked.ctypes.data % 4 == 0 else checked.copy()
        return aligned.view("<f4").reshape(shape)

    def encode_blocks(self, values: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n, 4]: the bits, unchanged."""
        np.copyto(out.view("<f4"), values)
