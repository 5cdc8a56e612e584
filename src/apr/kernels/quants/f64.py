"""F64: IEEE 754 double precision, little-endian."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants._plain import PlainCodec


class Codec(PlainCodec):
    """Eight bytes a value; decoding rounds to float32."""

    name = "f64"
    block_bytes = 8
    ggml_type = 28
    apr_dtype = 3
    dtype = "<f8"

    def encode_blocks(self, values: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n, 8]: exact."""
        np.copyto(out.view("<f8"), values)
