"""Q4_1: 32 elements of 4 bits with one F16 scale and one F16 minimum."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants import _fit, _simple
from apr.kernels.quants._bits import field, halves, pack, scale_quants, spread, unpack
from apr.kernels.quants._ggml import GgmlCodec, Importance


class Codec(GgmlCodec):
    """d, m (F16), 16 bytes: element i in the low nibble of byte i, element i + 16 in the high one. x = d * q + m."""

    name = "q4_1"
    block_size = 32
    block_bytes = 20
    ggml_type = 3
    scales_at = (0, 2)

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 32]."""
        quants = unpack(field(blocks, 4, 16), 4, width=16)
        scales = halves(blocks, 0, 2)
        scale_quants(out, quants, scales[:, 0])
        np.add(out, spread(scales[:, 1], out), out=out)

    def quantise(self, values: np.ndarray, importance: Importance | None, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, 20]. Source: ggml-quants.c, quantize_row_q4_1_ref and quantize_row_q4_1_impl."""
        scales, minima, quants = _simple.with_minimum(values, importance, 15)
        out[:, :4] = _fit.half(np.stack([scales, minima], axis=1)).view(np.uint8)
        out[:, 4:] = pack(quants, 4, width=16)
