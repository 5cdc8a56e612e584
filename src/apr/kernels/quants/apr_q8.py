"""APR Q8: aprender's own 8 bits, one F32 scale for the whole tensor (GGML's Q8_0 has one for each 32 elements)."""

from __future__ import annotations

import math

import numpy as np

from apr.kernels.quants._block import BlockCodec, in_chunks
from apr.kernels.quants._rounding import round_half_away

SCALE_BYTES = 4


class Codec(BlockCodec):
    """scale (F32), then a signed byte an element. x = scale * q. A tensor of no elements has no scale either."""

    name = "apr_q8"
    block_size = 1
    block_bytes = 1
    apr_dtype = 129

    def n_bytes(self, n_elements: int) -> int:
        """Bytes that `n_elements` take."""
        return SCALE_BYTES + n_elements if n_elements else 0

    def decode(self, raw: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """float32 [shape] from uint8 [n_bytes]. Raises ValueError if the byte count does not fit."""
        checked = self._checked(raw, shape)
        scale = checked[:SCALE_BYTES].view("<f4").astype(np.float32)  # [1], or [0] for an empty tensor

        def scaled(quants: np.ndarray, out: np.ndarray) -> None:
            self.decode_blocks(quants, out)
            np.multiply(out, scale, out=out)

        out = np.empty((math.prod(shape), 1), dtype=np.float32)
        in_chunks(scaled, checked[SCALE_BYTES:].reshape(-1, 1), out, block_size=1)
        return out.reshape(shape)

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n, 1], with the quants: the scale stands before them all, and `decode` applies it."""
        np.copyto(out, blocks.view(np.int8))

    def encode(self, values: np.ndarray, importance: np.ndarray | None = None) -> np.ndarray:
        """uint8 [n_bytes] from float32 values of any shape. Raises ValueError if one is NaN or infinite."""
        del importance
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, 1)
        # not abs(flat).max(), which would make a copy of the tensor
        largest = np.maximum(flat.max(initial=0), -flat.min(initial=0))
        if not np.isfinite(largest):
            raise ValueError("the tensor holds a NaN or an infinity, which apr_q8 cannot; store it as f32")
        scale = largest / np.float32(127) or np.float32(1)
        raw = np.empty(self.n_bytes(flat.size), dtype=np.uint8)
        raw[:SCALE_BYTES].view("<f4")[:] = scale
        in_chunks(
            lambda part, out: self.encode_blocks(part / scale, out),
            flat,
            raw[SCALE_BYTES:].reshape(-1, 1),
            block_size=1,
        )
        return raw

    def encode_blocks(self, values: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n, 1], with values that are already divided by the scale."""
        np.copyto(out.view(np.int8), np.clip(round_half_away(values), -127, 127), casting="unsafe")
