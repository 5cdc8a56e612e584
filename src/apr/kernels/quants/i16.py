"""I16: signed 16-bit integers, little-endian."""

from __future__ import annotations

from apr.kernels.quants._plain import PlainCodec


class Codec(PlainCodec):
    """Two bytes a value; exact in float32."""

    name = "i16"
    block_bytes = 2
    ggml_type = 25
    dtype = "<i2"
