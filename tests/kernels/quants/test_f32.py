"""F32: decoding need not copy."""

from __future__ import annotations

import numpy as np

from apr.kernels import quants


def test_aligned_bytes_are_viewed_and_others_are_copied() -> None:
    codec = quants.codec("f32")
    buffer = np.zeros(19, dtype=np.uint8)
    assert np.shares_memory(codec.decode(buffer[:16], (4,)), buffer)
    for odd in (1, 2, 3):
        assert not np.shares_memory(codec.decode(buffer[odd : odd + 16], (4,)), buffer)


def test_every_bit_of_a_nan_is_kept() -> None:
    codec = quants.codec("f32")
    values = np.array([0x7F800001, 0xFFC12345, 0x80000000], dtype="<u4").view("<f4")
    assert codec.encode(values).tobytes() == values.tobytes()
