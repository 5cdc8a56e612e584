"""APR Q8: one scale for the whole tensor."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from apr.kernels import quants

CODEC = quants.codec("apr_q8")


def encoded_one_by_one(values: list[np.float32]) -> bytes:
    """As aprender's `add_q8_tensor` writes them."""
    if not values:
        return b""
    largest = max(abs(v) for v in values)
    scale = largest / np.float32(127) if largest else np.float32(1)
    ratios = [float(v / scale) for v in values]
    rounded = [math.copysign(math.floor(abs(r) + 0.5), r) for r in ratios]
    return struct.pack("<f", scale) + struct.pack(f"{len(values)}b", *(int(min(127, max(-127, r))) for r in rounded))


def test_values_are_the_scale_times_signed_bytes() -> None:
    raw = np.frombuffer(struct.pack("<f3b", 0.25, -128, 0, 127), dtype=np.uint8)
    assert CODEC.decode(raw, (3,)).tolist() == [-32.0, 0.0, 31.75]


@pytest.mark.parametrize("n", [0, 1, 2, 33, 1000])
def test_any_number_of_elements_is_encoded_as_aprender_does(n: int) -> None:
    values = (np.random.default_rng(n).standard_normal(n) * 0.02).astype(np.float32)
    raw = CODEC.encode(values)
    assert raw.tobytes() == encoded_one_by_one(list(values))
    assert raw.size == CODEC.n_bytes(n)
    assert np.abs(CODEC.decode(raw, (n,)) - values).max(initial=0) <= 0.51 * np.abs(values).max(initial=0) / 127


def test_a_tensor_of_zeros_is_encoded_with_a_scale_of_one() -> None:
    assert CODEC.encode(np.zeros((2, 2), dtype=np.float32)).tobytes() == struct.pack("<f4b", 1.0, 0, 0, 0, 0)


def test_the_largest_negative_value_sets_the_scale() -> None:
    assert CODEC.decode(CODEC.encode(np.array([-127, 1], dtype=np.float32)), (2,)).tolist() == [-127.0, 1.0]


def test_a_subnormal_scale_that_was_rounded_down_does_not_overflow_the_byte() -> None:
    unit = np.float32(2.0**-149)
    assert CODEC.encode(np.array([-190, 190], dtype=np.float32) * unit)[4:].view(np.int8).tolist() == [-127, 127]


def test_values_as_small_as_can_be_are_encoded_without_a_warning() -> None:
    assert not CODEC.decode(CODEC.encode(np.array([1e-45, 0], dtype=np.float32)), (2,)).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="apr_q8 cannot"):
        CODEC.encode(np.array([1, value, 2], dtype=np.float32))


@pytest.mark.parametrize("pattern", [0x7FC00000, 0x7F800000, 0x80000001])
def test_a_scale_is_used_as_it_stands(pattern: int) -> None:
    raw = np.frombuffer(struct.pack("<Ib", pattern, 2), dtype=np.uint8)
    scale = np.array([pattern], dtype="<u4").view("<f4")
    assert np.array_equal(CODEC.decode(raw, (1,)), scale * 2, equal_nan=True)
