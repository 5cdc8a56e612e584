"""The packed scales of the K-quants."""

from __future__ import annotations

import gguf
import numpy as np

from apr.kernels.quants import _k_scales


def test_scales_and_minima_are_those_of_gguf() -> None:
    packed = np.random.default_rng(0).integers(0, 256, (100, 12), dtype=np.uint8)
    scales, minima = gguf.quants.Q4_K.get_scale_min(packed)
    found = _k_scales.scales_and_minima(packed)
    assert np.array_equal(found[:, 0], scales) and np.array_equal(found[:, 1], minima)


def test_wide_scales_have_four_low_and_two_high_bits() -> None:
    packed = np.random.default_rng(0).integers(0, 256, (100, 12), dtype=np.uint8)
    wanted = [
        [(int(row[j % 8]) >> 4 * (j // 8) & 15) | (int(row[8 + j % 4]) >> 2 * (j // 4) & 3) << 4 for j in range(16)]
        for row in packed
    ]
    assert _k_scales.wide_scales(packed).tolist() == wanted


def test_what_is_packed_is_unpacked() -> None:
    numbers = np.random.default_rng(1).integers(0, 64, (100, 16), dtype=np.uint8)
    packed = _k_scales.pack_scales_and_minima(numbers[:, :8], numbers[:, 8:])
    assert np.array_equal(_k_scales.scales_and_minima(packed).reshape(-1, 16), numbers)
    assert np.array_equal(_k_scales.wide_scales(_k_scales.pack_wide_scales(numbers)), numbers)
