"""The compiled encoders give the bits of their definitions in NumPy, on every instruction set that this processor has.

The definitions are held against llama.cpp's quantiser in `quants/test_ggml.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

import ggml_oracle
import quant_inputs
from apr.kernels import _extension, quants
from apr.kernels.quants._ggml import GgmlCodec

native: Any = _extension.native()
ISAS: list[str] = [] if native is None else native.instruction_sets()
pytestmark = pytest.mark.skipif(native is None, reason="the compiled kernels are not built here")


@pytest.fixture(autouse=True, params=ISAS)
def _isa(request: pytest.FixtureRequest) -> Iterator[None]:
    before = native.instruction_set()
    native.use_instruction_set(request.param)
    yield
    native.use_instruction_set(before)


@cache
def defined(name: str, kind: str, what: str) -> tuple[np.ndarray, bool]:
    """By the definition; once for all instruction sets."""
    codec = quants.codec(name)
    assert isinstance(codec, GgmlCodec)
    values = quant_inputs.values(kind)
    weights = quant_inputs.importances(values.shape[1])[what]
    raw, is_held = codec.encode_in_numpy(values.reshape(-1, codec.block_size), weights)
    return raw.reshape(-1), is_held


@pytest.mark.parametrize("name", ggml_oracle.CODECS)
@pytest.mark.parametrize("what", ["none", "random", "few", "of two sizes"])
def test_bytes_are_the_definitions(name: str, what: str) -> None:
    for kind in (
        quant_inputs.VALUES
        if what == "none"
        else ("normal", "heavy", "negative", "hard below zero", "hard of any size")
    ):
        values = quant_inputs.values(kind)
        weights = quant_inputs.importances(values.shape[1])[what]
        raw, is_held = native.encode(native.Pool(2), name, values, weights)
        expected, expected_is_held = defined(name, kind, what)
        assert np.array_equal(raw, expected) and is_held == expected_is_held, kind


@pytest.mark.parametrize("rows", [1, 3, 16, 33])
@pytest.mark.parametrize("name", ggml_oracle.CODECS)
def test_any_number_of_blocks_is_encoded_as_each_alone(name: str, rows: int) -> None:
    values = np.random.default_rng(rows).standard_normal((rows, 256)).astype(np.float32)
    together, _ = native.encode(native.Pool(2), name, values, None)
    alone = [native.encode(native.Pool(1), name, row[None], None)[0] for row in values]
    assert np.array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("wrong", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ggml_oracle.CODECS)
def test_one_value_that_is_not_finite_is_noticed_in_any_place(name: str, wrong: float) -> None:
    for at in range(0, 33 * 256, 97):
        values = np.zeros((33, 256), dtype=np.float32)
        assert native.encode(native.Pool(1), name, values, None)[1]
        values.reshape(-1)[at] = wrong
        assert not native.encode(native.Pool(1), name, values, None)[1], at


@pytest.mark.parametrize("codec", ["f16", "bf16", "f32", "q9_9"])
def test_a_codec_without_an_encoder_is_refused(codec: str) -> None:
    with pytest.raises(ValueError, match=f"codec '{codec}'"):
        native.encode(native.Pool(1), codec, np.zeros((1, 256), dtype=np.float32), None)


def test_arrays_that_do_not_fit_are_refused() -> None:
    values = np.zeros((2, 256), dtype=np.float32)
    with pytest.raises(ValueError, match="48 columns"):
        native.encode(native.Pool(1), "q4_0", np.zeros((1, 48), dtype=np.float32), None)
    with pytest.raises(ValueError, match=r"importance is \[32\], expected \[256\]"):
        native.encode(native.Pool(1), "q4_0", values, np.zeros(32, dtype=np.float32))
    with pytest.raises(ValueError, match="values is float64"):
        native.encode(native.Pool(1), "q4_0", values.astype(np.float64), None)
