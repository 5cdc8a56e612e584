"""I32: signed 32-bit integers, little-endian."""

from __future__ import annotations

from apr.kernels.quants._plain import PlainCodec


class Codec(PlainCodec):
    """Four bytes a value; exact in float32 up to 2**24, rounded above."""

    name = "i32"
    block_bytes = 4
    ggml_type = 26
    apr_dtype = 4
    dtype = "<i4"
