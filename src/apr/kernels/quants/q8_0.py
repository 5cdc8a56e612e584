"""Q8_0: 32 elements of 8 bits with one F16 scale."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants import _fit
from apr.kernels.quants._bits import field, halves, scale_quants
from apr.kernels.quants._ggml import GgmlCodec, Importance
from apr.kernels.quants._rounding import round_half_away


class Codec(GgmlCodec):
    """d (F16), 32 signed bytes. x = d * q."""

    name = "q8_0"
    block_size = 32
    block_bytes = 34
    ggml_type = 8
    scales_at = (0,)
    uses_importance = False

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, 32]."""
        scale_quants(out, field(blocks, 2, 32).view(np.int8), halves(blocks, 0))

    def quantise(self, values: np.ndarray, importance: Importance | None, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, 34]. Source: ggml-quants.c, quantize_row_q8_0_ref."""
        del importance
        scales = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
        scaled = values * _fit.inverse(scales)
        out[:, :2] = _fit.half(scales).view(np.uint8)
        # a scale under 2**-128 has no inverse: ggml's conversion of infinity and NaN gives 0
        out[:, 2:] = round_half_away(np.where(np.isfinite(scaled), scaled, 0)).astype(np.int8).view(np.uint8)
