"""BF16: every pattern, and the edges of rounding."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from apr.kernels import quants

CODEC = quants.codec("bf16")


def test_every_pattern_decodes_to_the_upper_half_of_an_f32() -> None:
    patterns = np.arange(1 << 16, dtype="<u2")
    decoded = CODEC.decode(patterns.view(np.uint8), (1 << 16,))
    assert np.array_equal(decoded.view(np.uint32), patterns.astype(np.uint32) << 16)


@pytest.mark.parametrize(
    ("bits", "pattern"),
    [
        (0x3F808000, 0x3F80),  # ties: to even
        (0x3F818000, 0x3F82),
        (0x3F808001, 0x3F81),
        (0x7F7FFFFF, 0x7F80),  # the largest F32 is beyond BF16
        (0x80000000, 0x8000),
        (0x7F800001, 0x7FC0),  # NaNs: quiet, the sign kept
        (0xFFFFFFFF, 0xFFFF),
        (0x7F800000, 0x7F80),
    ],
)
def test_encoding_rounds_to_the_nearest_and_ties_to_even(bits: int, pattern: int) -> None:
    assert CODEC.encode(np.array([bits], dtype=np.uint32).view(np.float32)).view("<u2")[0] == pattern


def test_random_bits_encode_as_gguf_does() -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, (100, 1000), dtype=np.uint64).astype(np.uint32)
    wanted = gguf.quants.quantize(bits.view(np.float32), gguf.GGMLQuantizationType.BF16)
    assert CODEC.encode(bits.view(np.float32)).tobytes() == wanted.tobytes()
