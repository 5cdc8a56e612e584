"""F16: every pattern, and the edges of rounding."""

from __future__ import annotations

import struct

import gguf
import numpy as np
import pytest

from apr.kernels import quants

CODEC = quants.codec("f16")


def test_every_pattern_decodes_to_its_value() -> None:
    patterns = np.arange(1 << 16, dtype="<u2").view(np.uint8)
    decoded = CODEC.decode(patterns, (1 << 16,))
    wanted = np.array([x for (x,) in struct.iter_unpack("<e", patterns.tobytes())], dtype=np.float32)
    assert np.array_equal(decoded, wanted, equal_nan=True)
    assert np.array_equal(np.signbit(decoded), np.arange(1 << 16) >= 1 << 15)


def test_every_pattern_is_encoded_back() -> None:
    patterns = np.arange(1 << 16, dtype="<u2")
    is_nan = np.isnan(patterns.view("<f2"))
    encoded = CODEC.encode(CODEC.decode(patterns.view(np.uint8), (1 << 16,))).view("<u2")
    assert np.array_equal(encoded[~is_nan], patterns[~is_nan])
    assert (encoded[is_nan] & 0x7E00 == 0x7E00).all()  # quiet


@pytest.mark.parametrize(
    ("value", "pattern"),
    [
        (1 + 2**-11, 0x3C00),  # ties: to even
        (1 + 3 * 2**-11, 0x3C02),
        (1 + 2**-11 + 2**-20, 0x3C01),
        (65519.0, 0x7BFF),
        (65520.0, 0x7C00),
        (-1e30, 0xFC00),
        (2.0**-25, 0x0000),
        (2.0**-25 * 1.5, 0x0001),
        (-0.0, 0x8000),
    ],
)
def test_encoding_rounds_to_the_nearest_and_ties_to_even(value: float, pattern: int) -> None:
    assert CODEC.encode(np.array(value, dtype=np.float32)).view("<u2")[0] == pattern


def test_random_values_encode_as_gguf_does() -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 100_000, dtype=np.uint64).astype(np.uint32)
    values = bits.view(np.float32)[~np.isnan(bits.view(np.float32))]
    with np.errstate(all="ignore"):
        wanted = gguf.quants.quantize(values, gguf.GGMLQuantizationType.F16)
    assert CODEC.encode(values).tobytes() == wanted.tobytes()


def test_a_signalling_nan_becomes_a_quiet_one() -> None:
    values = np.array([0x7F800001, 0xFF800001], dtype=np.uint32).view(np.float32)
    assert [hex(x & 0xFE00) for x in CODEC.encode(values).view("<u2")] == ["0x7e00", "0xfe00"]
