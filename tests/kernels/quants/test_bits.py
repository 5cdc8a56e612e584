"""The moves that the codecs share, against one element at a time."""

from __future__ import annotations

import numpy as np
import pytest

from apr.kernels.quants import _bits


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("width", [1, 16, 32])
def test_unpack_takes_all_lowest_fields_of_a_group_first(bits: int, width: int) -> None:
    packed = np.random.default_rng(0).integers(0, 256, (3, 64), dtype=np.uint8)
    wanted = [
        [
            (int(byte) >> bits * lane) & ((1 << bits) - 1)
            for group in row.reshape(-1, width)
            for lane in range(8 // bits)
            for byte in group
        ]
        for row in packed
    ]
    assert _bits.unpack(packed, bits, width=width).tolist() == wanted


def test_field_is_a_contiguous_copy_of_some_columns() -> None:
    blocks = np.arange(60, dtype=np.uint8).reshape(3, 20)
    found = _bits.field(blocks, 4, 16)
    assert found.flags.c_contiguous and found.flags.writeable
    assert np.array_equal(found, blocks[:, 4:20]) and not np.shares_memory(found, blocks)


def test_halves_are_f16_numbers_side_by_side() -> None:
    blocks = np.zeros((2, 7), dtype=np.uint8)
    blocks[:, 1:5] = np.array([1.5, -2.0], dtype="<f2").view(np.uint8)
    assert _bits.halves(blocks, 1, 2).tolist() == [[1.5, -2.0]] * 2


def test_high_bits_are_added_above_the_low_ones() -> None:
    low, high = np.full((2, 8), 0x0F, dtype=np.uint8), np.tile(np.array([0, 1, 2, 3], dtype=np.uint8), (2, 2))
    _bits.add_high_bits(low, high, 4)
    assert low.tolist() == [[0x0F, 0x1F, 0x2F, 0x3F] * 2] * 2


def test_centre_makes_quants_signed() -> None:
    assert _bits.centre(np.array([0, 8, 15], dtype=np.uint8), 8).tolist() == [-8, 0, 7]


def test_a_factor_scales_its_share_of_the_elements() -> None:
    out = np.empty((2, 4), dtype=np.float32)
    factors = np.array([[1, 10], [100, -1]], dtype=np.float32)
    _bits.scale_quants(out, np.array([[1, 2, 3, 4]] * 2, dtype=np.int8), factors)
    assert out.tolist() == [[1, 2, 30, 40], [100, 200, -3, -4]]


@pytest.mark.parametrize(("bits", "width"), [(1, 32), (2, 32), (4, 16), (4, 32), (4, 64)])
def test_what_is_packed_is_unpacked(bits: int, width: int) -> None:
    quants = np.random.default_rng(bits).integers(0, 1 << bits, (5, 256), dtype=np.uint8)
    assert np.array_equal(_bits.unpack(_bits.pack(quants, bits, width=width), bits, width=width), quants)
