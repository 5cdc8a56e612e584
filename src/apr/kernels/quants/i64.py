"""I64: signed 64-bit integers, little-endian."""

from __future__ import annotations

from apr.kernels.quants._plain import PlainCodec


class Codec(PlainCodec):
    """Eight bytes a value; exact in float32 up to 2**24, rounded above."""

    name = "i64"
    block_bytes = 8
    ggml_type = 27
    apr_dtype = 5
    dtype = "<i8"
