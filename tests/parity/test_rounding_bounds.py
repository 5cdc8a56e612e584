"""The bounds of `_rounding_bounds` against the reference quantisers: gguf-py's and ggml's own, weighted or not."""

from __future__ import annotations

from collections.abc import Callable

import gguf
import numpy as np
import pytest

import ggml_oracle
from apr.kernels import quants
from apr.parity._rounding_bounds import Allowance, allowance, is_block_codec, is_known

PLAINLY_ROUNDED = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0")
K_QUANTS = ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k")
KINDS = ("normal", "heavy", "shifted", "sparse", "uneven", "negative", "tiny")
IMPORTANCE = ("none", "ones", "squares", "uneven 1", "uneven 2", "uneven 3")


def rows(kind: str, *, n: int = 6, columns: int = 1024, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = 0.04 * random.standard_normal((n, columns))
    if kind == "heavy":
        x = 0.02 * random.standard_t(2, (n, columns))
    elif kind == "shifted":
        x = x + 0.2
    elif kind == "sparse":
        x = x * (random.random((n, columns)) < 0.1)
    elif kind == "uneven":
        x = x * np.repeat(np.exp(2 * random.standard_normal((n, columns // 16))), 16, axis=1)
    elif kind == "negative":
        x = -np.abs(x)
    elif kind == "tiny":
        x = 1e-3 * x
    return np.ascontiguousarray(x, dtype=np.float32)


def importance(kind: str, columns: int = 1024, *, seed: int = 1) -> np.ndarray | None:
    random = np.random.default_rng(seed)
    if kind == "none":
        return None
    if kind == "ones":
        return np.ones(columns, dtype=np.float32)
    if kind == "squares":
        return np.square(random.standard_normal(columns)).astype(np.float32)
    return np.exp(float(kind.split()[1]) * random.standard_normal(columns)).astype(np.float32)


def beyond(values: np.ndarray, decoded: np.ndarray, allowed: Allowance) -> np.ndarray:
    difference = decoded - values
    return (difference > allowed.below) | (difference < -allowed.above)


def judged(codec: str, values: np.ndarray, raw: np.ndarray) -> np.ndarray:
    decoded = quants.codec(codec).decode(raw, values.shape)
    return beyond(values, decoded, allowance(codec, raw, decoded))


@pytest.mark.parametrize("codec", PLAINLY_ROUNDED)
@pytest.mark.parametrize("kind", KINDS)
def test_gguf_py_stays_within_the_bound(codec: str, kind: str) -> None:
    values = rows(kind)
    raw = gguf.quants.quantize(values, gguf.GGMLQuantizationType[codec.upper()])
    assert not judged(codec, values, raw.reshape(-1)).any()


@pytest.mark.parity
@pytest.mark.parametrize("codec", K_QUANTS)
@pytest.mark.parametrize("weights", IMPORTANCE)
def test_k_quants_of_ggml_stay_within_the_bound_however_they_are_weighted(codec: str, weights: str) -> None:
    for kind in KINDS:
        values = rows(kind)
        assert not judged(codec, values, ggml_oracle.quantise(codec, values, importance(weights))).any(), kind


@pytest.mark.parity
@pytest.mark.parametrize("codec", PLAINLY_ROUNDED)
@pytest.mark.parametrize("weights", ["none", "ones"])
def test_old_codecs_of_ggml_stay_within_the_bound_when_all_weighs_the_same(codec: str, weights: str) -> None:
    for kind in KINDS:
        values = rows(kind)
        assert not judged(codec, values, ggml_oracle.quantise(codec, values, importance(weights))).any(), kind


@pytest.mark.parametrize("codec", ["f16", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_half_a_unit_and_no_more(codec: str, kind: str) -> None:
    values = rows(kind)
    assert not judged(codec, values, quants.codec(codec).encode(values)).any()
    cut = (values.view(np.uint32) & np.uint32(0xFFFF0000 if codec == "bf16" else 0xFFFFE000)).view(np.float32)
    moved = judged(codec, values, quants.codec(codec).encode(cut))
    if kind != "sparse" and not (codec == "f16" and kind == "tiny"):  # zeros and subnormals are not cut
        assert moved.mean() > 0.2


@pytest.mark.parametrize("codec", ["apr_q4", "apr_q8"])
def test_our_own_codecs_stay_within_the_bound(codec: str) -> None:
    for kind in KINDS:
        values = rows(kind, n=3, columns=96 if kind == "uneven" else 100)
        assert not judged(codec, values, quants.codec(codec).encode(values)).any(), kind


def test_apr_q4_scales_that_are_read_as_zero_are_allowed_for() -> None:
    values = rows("normal") * np.float32(1e-3)
    assert not judged("apr_q4", values, quants.codec("apr_q4").encode(values)).any()


def add_one_to_a_nibble(raw: np.ndarray, codec: str) -> None:
    byte = {
        "q4_0": 2,
        "q4_1": 4,
        "q5_0": 6,
        "q5_1": 8,
        "q8_0": 2,
        "q4_k": 16,
        "q5_k": 48,
        "q6_k": 0,
        "q2_k": 16,
        "q3_k": 32,
    }[codec]
    block = quants.codec(codec).block_bytes
    raw[5 * block + byte] ^= 0x01 if codec != "q8_0" else 0x04


def scramble_a_block(raw: np.ndarray, codec: str) -> None:
    block = quants.codec(codec).block_bytes
    scales = {"q4_0": 2, "q4_1": 4, "q5_0": 2, "q5_1": 4, "q8_0": 2, "q4_k": 16, "q5_k": 16}.get(codec, 0)
    end = {"q6_k": 192, "q3_k": 96}.get(codec, block)
    part = raw[5 * block + (16 if codec == "q2_k" else scales) : 5 * block + (80 if codec == "q2_k" else end)]
    part[:] = np.random.default_rng(3).integers(0, 256, part.size, dtype=np.uint8)


def double_a_scale(raw: np.ndarray, codec: str) -> None:
    at = {"q6_k": 208, "q2_k": 80, "q3_k": 108}.get(codec, 0)
    block = quants.codec(codec).block_bytes
    scale = raw[5 * block + at : 5 * block + at + 2].view("<f2")
    scale *= np.float16(2)


@pytest.mark.parity
@pytest.mark.parametrize("codec", ggml_oracle.CODECS)
@pytest.mark.parametrize("damage", [scramble_a_block, double_a_scale])
def test_one_bad_block_is_beyond_the_bound(codec: str, damage: Callable[[np.ndarray, str], None]) -> None:
    values = rows("normal")
    raw = ggml_oracle.quantise(codec, values)
    damage(raw, codec)
    found = judged(codec, values, raw).reshape(-1, quants.codec(codec).block_size)
    assert np.flatnonzero(found.any(axis=1)).tolist() == [5]


@pytest.mark.parity
@pytest.mark.parametrize("codec", ggml_oracle.CODECS)
def test_one_quant_that_is_off_by_one_is_beyond_the_bound(codec: str) -> None:
    """Old codecs leave a quarter of a step to weighted quantisers: three in four are seen. Values are mid-step here."""
    values = rows("normal")
    raw = ggml_oracle.quantise(codec, values)
    exact = quants.codec(codec).decode(raw, values.shape)  # an original on the grid: plain rounding leaves it there
    again = raw.copy()
    add_one_to_a_nibble(again, codec)
    assert judged(codec, exact, again).sum() == 1
    assert not judged(codec, exact, raw).any()


@pytest.mark.parity
@pytest.mark.parametrize("codec", ggml_oracle.CODECS)
def test_values_cut_off_in_place_of_rounded_are_beyond_the_bound(codec: str) -> None:
    values = rows("normal")
    raw = ggml_oracle.quantise(codec, values)
    decoded = quants.codec(codec).decode(raw, values.shape)
    half = allowance(codec, raw, decoded).half
    assert judged(codec, values + half, raw).mean() > 0.1  # as if every original lay half a step higher


def test_what_is_a_block_codec_and_what_is_known() -> None:
    assert is_block_codec("q4_k") and is_block_codec("apr_q8") and not is_block_codec("bf16")
    assert is_known("f32") and is_known("q2_k") and not is_known("iq4_xs")


def test_blocks_with_scales_that_are_not_numbers_do_not_raise() -> None:
    raw = np.full(5 * 18, 0xFF, dtype=np.uint8)
    decoded = quants.codec("q4_0").decode(raw, (5, 32))
    assert not np.isfinite(allowance("q4_0", raw, decoded).half).all()
