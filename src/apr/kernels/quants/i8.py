"""I8: signed bytes."""

from __future__ import annotations

from apr.kernels.quants._plain import PlainCodec


class Codec(PlainCodec):
    """One byte a value; exact in float32."""

    name = "i8"
    block_bytes = 1
    ggml_type = 24
    apr_dtype = 6
    dtype = "<i1"
