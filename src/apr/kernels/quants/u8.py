"""U8: unsigned bytes."""

from __future__ import annotations

from apr.kernels.quants._plain import PlainCodec


class Codec(PlainCodec):
    """One byte a value; exact in float32."""

    name = "u8"
    block_bytes = 1
    apr_dtype = 7
    dtype = "<u1"
