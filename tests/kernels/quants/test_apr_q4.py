"""APR Q4: neighbouring nibbles, short last blocks, aprender's rules for scales."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from apr.kernels import quants

CODEC = quants.codec("apr_q4")


def encoded_one_by_one(values: list[np.float32]) -> bytes:
    """As aprender's `add_q4_tensor` writes them."""
    raw = b""
    for start in range(0, len(values), 32):
        block = values[start : start + 32]
        largest = max(abs(v) for v in block)
        scale = largest / np.float32(7) if largest else np.float32(1)
        nibbles = [0] * 32
        for i, v in enumerate(block):
            ratio = float(v / scale)
            rounded = math.copysign(math.floor(abs(ratio) + 0.5), ratio)
            nibbles[i] = int(min(7, max(-8, rounded))) + 8
        raw += struct.pack("<e", scale) + bytes(nibbles[i] | nibbles[i + 1] << 4 for i in range(0, 32, 2))
    return raw


def test_element_2i_is_the_low_nibble_of_byte_i() -> None:
    raw = struct.pack("<e", 0.5) + bytes([0x80 + 0x0F, 0x79]) + bytes([0x88] * 14)
    decoded = CODEC.decode(np.frombuffer(raw, dtype=np.uint8), (32,))
    assert decoded[:4].tolist() == [3.5, 0.0, 0.5, -0.5] and not decoded[4:].any()


@pytest.mark.parametrize("pattern", [0x7E00, 0xFC00, 0x7C00, 0x0001, 0x83FF, 0x0000])
def test_a_scale_that_is_not_a_normal_number_counts_as_zero(pattern: int) -> None:
    raw = np.full(18, 0xFF, dtype=np.uint8)
    raw[:2] = pattern & 0xFF, pattern >> 8
    assert not CODEC.decode(raw, (32,)).any()


def test_the_smallest_normal_scale_counts() -> None:
    raw = np.frombuffer(struct.pack("<H", 0x8400) + b"\xff" * 16, dtype=np.uint8)
    assert (CODEC.decode(raw, (32,)) == -7 * 2.0**-14).all()


@pytest.mark.parametrize("n", [0, 1, 2, 31, 32, 33, 63, 64, 1000])
def test_any_number_of_elements_is_encoded_as_aprender_does(n: int) -> None:
    values = (np.random.default_rng(n).standard_normal(n) * 0.02).astype(np.float32)
    raw = CODEC.encode(values)
    assert raw.tobytes() == encoded_one_by_one(list(values))
    assert raw.size == CODEC.n_bytes(n) == 18 * math.ceil(n / 32) and CODEC.row_fits((1, n))
    assert np.abs(CODEC.decode(raw, (n,)) - values).max(initial=0) <= 0.6 * np.abs(values).max(initial=0) / 7


def test_halves_are_rounded_away_from_zero() -> None:
    values = np.zeros(32, dtype=np.float32)
    values[:5] = 7, 0.5, -0.5, 2.5, -2.5
    assert CODEC.decode(CODEC.encode(values), (32,))[:5].tolist() == [7, 1, -1, 3, -3]


def test_values_are_divided_by_the_scale_before_it_is_rounded() -> None:
    values = np.zeros(32, dtype=np.float32)
    values[:2] = 7 * (1 + 2**-12), 0.50006  # F16 rounds the scale to 1, by which the second value would become 1
    assert CODEC.decode(CODEC.encode(values), (32,))[:2].tolist() == [7, 0]


def test_a_block_of_zeros_is_encoded_with_a_scale_of_one() -> None:
    assert CODEC.encode(np.zeros(32, dtype=np.float32)).tobytes() == struct.pack("<e", 1.0) + b"\x88" * 16


def test_what_pads_a_short_block_is_zero_bits() -> None:
    assert CODEC.encode(np.ones(3, dtype=np.float32))[2:].tolist() == [0xFF, 0x0F] + [0] * 14


def test_values_as_small_as_can_be_are_encoded_without_a_warning() -> None:
    values = np.array([1e-45] + [0.0] * 31, dtype=np.float32)
    assert not CODEC.decode(CODEC.encode(values), (32,)).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 7.1 * 65504])
def test_values_that_no_scale_can_hold_are_refused(value: float) -> None:
    values = np.zeros(64, dtype=np.float32)
    values[40] = value
    with pytest.raises(ValueError, match="apr_q4 holds at most"):
        CODEC.encode(values)
