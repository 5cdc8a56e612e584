"""ggml's quantised types are encoded with the bits that llama.cpp's own quantiser writes.

The oracle is `ggml_quantize_chunk` (`ggml_oracle.py`). Once for the definitions in NumPy, once for the compiled kernels;
`test_native_encode.py` has the kernels of every instruction set against the definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import ggml_oracle
import quant_inputs
from apr.formats import gguf
from apr.kernels import _extension, quants
from apr.kernels.quants import _block, _fit, _ggml
from apr.kernels.quants._ggml import GgmlCodec

HARD = ("hard below zero", "hard of any size")
WITH_IMPORTANCE = tuple(name for name in ggml_oracle.CODECS if name != "q8_0")


@pytest.fixture(params=["numpy", "native"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each of the two ways to encode."""
    if request.param == "numpy":
        monkeypatch.setattr(_extension, "native", lambda: None)
    elif _extension.native() is None:
        pytest.skip("the compiled kernels are not built here")
    yield request.param


def codec_of(name: str) -> GgmlCodec:
    codec = quants.codec(name)
    assert isinstance(codec, GgmlCodec)
    return codec


def differing_blocks(name: str, values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """Blocks that are not the oracle's, of those whose scales the oracle has finite."""
    codec = codec_of(name)
    theirs = ggml_oracle.quantise(name, values, importance).reshape(-1, codec.block_bytes)
    ours = codec.encode(values, importance).reshape(-1, codec.block_bytes)
    return np.flatnonzero((ours != theirs).any(axis=1) & codec._is_finite(theirs))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", quant_inputs.VALUES)
@pytest.mark.parametrize("name", ggml_oracle.CODECS)
def test_bytes_are_the_oracles(name: str, kind: str) -> None:
    values = quant_inputs.values(kind)
    assert differing_blocks(name, values, None).size == 0
    assert codec_of(name)._is_finite(codec_of(name).encode(values).reshape(-1, codec_of(name).block_bytes)).all()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", ["normal", "heavy", "spikes", "of any size", "negative", "near 1e4", *HARD])
@pytest.mark.parametrize("name", ggml_oracle.CODECS)
def test_bytes_with_an_importance_are_the_oracles(name: str, kind: str) -> None:
    values = quant_inputs.values(kind)
    for what, importance in quant_inputs.importances(values.shape[1]).items():
        assert differing_blocks(name, values, importance).size == 0, what


@pytest.mark.slow
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", quant_inputs.VALUES)
@pytest.mark.parametrize("name", WITH_IMPORTANCE)
def test_bytes_with_an_importance_are_the_oracles_on_everything(name: str, kind: str) -> None:
    values = np.concatenate([quant_inputs.values(kind)] * 2)
    for what, importance in quant_inputs.importances(values.shape[1]).items():
        assert differing_blocks(name, values, importance).size == 0, what


@pytest.mark.parametrize("rows", [1, 2, 5, 17])
@pytest.mark.parametrize("columns", [256, 512, 1280])
@pytest.mark.parametrize("name", ggml_oracle.CODECS)
def test_every_shape_is_encoded_as_the_oracle_does(name: str, rows: int, columns: int) -> None:
    random = np.random.default_rng([rows, columns])
    values = random.standard_normal((rows, columns)).astype(np.float32)
    for importance in (None, random.random(columns).astype(np.float32)):
        assert differing_blocks(name, values, importance).size == 0


@pytest.mark.parametrize("name", ggml_oracle.CODECS)
def test_threads_and_chunks_do_not_change_a_byte(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    n_rows = 300 if way == "native" else 40  # more than one chunk
    values = random.standard_normal((n_rows, 256)).astype(np.float32)
    importance = random.random(256).astype(np.float32)
    found = []
    for threads, chunk in ((1, 1 << 17), (2, 1 << 12), (3, 1 << 10)):
        monkeypatch.setattr(_block, "MAX_THREADS", threads)
        monkeypatch.setattr(_block, "THREADED_ELEMENTS", 1)
        monkeypatch.setattr(_block, "THREAD_CHUNK_ELEMENTS", chunk)
        found.append([codec_of(name).encode(values, weights) for weights in (None, importance)])
    for others in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], others, strict=True))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ggml_oracle.CODECS)
def test_a_row_is_encoded_the_same_in_any_company(name: str) -> None:
    values = quant_inputs.values("rows of any size")
    importance = np.random.default_rng(6).random(256).astype(np.float32)
    for weights in (None, importance):
        together = codec_of(name).encode(values, weights)
        alone = [codec_of(name).encode(row, weights) for row in values]
        assert np.array_equal(np.concatenate(alone), together)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ggml_oracle.CODECS)
def test_a_value_that_is_not_finite_is_refused_with_its_index(name: str, wrong: float) -> None:
    values = quant_inputs.values("normal").reshape(1, 3, -1)
    values[0, 2, 417] = values[0, 2, 600] = wrong
    for importance in (None, np.ones(768, dtype=np.float32)):
        with pytest.raises(ValueError, match=rf"element \[0, 2, 417\] is {wrong}, {name} holds finite"):
            codec_of(name).encode(values, importance)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ggml_oracle.CODECS)
def test_values_beyond_the_scale_are_refused_and_the_largest_below_are_not(name: str) -> None:
    codec = codec_of(name)
    values = quant_inputs.values("normal")
    for exponent in range(4, 39):
        large = values.copy()
        large[1, 300] = np.float32(-(10.0**exponent))
        raw = ggml_oracle.quantise(name, large)
        # beyond 1e9 ggml writes other numbers, which are finite, into some types
        if exponent < 10 and codec._is_finite(raw.reshape(-1, codec.block_bytes)).all():
            assert np.array_equal(codec.encode(large), raw)
            continue
        assert exponent > 4
        with pytest.raises(
            ValueError, match=rf"element \[1, 300\] is -1(0*|e\+{exponent:02}), too large for the F16 scale"
        ):
            codec.encode(large)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", WITH_IMPORTANCE)
def test_a_block_whose_importance_is_zero_is_encoded_without_one(name: str) -> None:
    codec = codec_of(name)
    values = quant_inputs.values("normal")
    importance = np.random.default_rng(1).random(768).astype(np.float32)
    importance[256:512] = 0
    found = codec.encode(values, importance).reshape(3, 3, -1)
    assert np.array_equal(found[:, 1], codec.encode(values).reshape(3, 3, -1)[:, 1])
    theirs = ggml_oracle.quantise(name, values, importance).reshape(3, 3, -1)
    assert np.array_equal(found[:, 0], theirs[:, 0]) and np.array_equal(found[:, 2], theirs[:, 2])
    assert np.array_equal(codec.encode(values, np.zeros(768, dtype=np.float32)), codec.encode(values))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", WITH_IMPORTANCE)
@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e30, 3e38])
def test_no_importance_makes_a_scale_that_is_not_finite(name: str, size: float) -> None:
    values = quant_inputs.values("of any size")
    importance = np.full(768, size, dtype=np.float32)
    importance[::3] = 0
    decoded = codec_of(name).decode(codec_of(name).encode(values, importance), values.shape)
    assert np.isfinite(decoded).all()


@pytest.mark.parametrize("wrong", [-1.0, -1e-30, np.nan, np.inf])
def test_an_importance_that_makes_no_sense_is_refused(wrong: float) -> None:
    importance = np.ones(768, dtype=np.float32)
    importance[9] = wrong
    with pytest.raises(ValueError, match=r"the importance of column 9 is .* at least 0"):
        codec_of("q4_k").encode(quant_inputs.values("normal"), importance)


def test_an_importance_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"importance of shape \(512,\) for 768 columns"):
        codec_of("q4_k").encode(quant_inputs.values("normal"), np.ones(512, dtype=np.float32))


@pytest.mark.parametrize(("name", "shape"), [("q4_0", (2, 48)), ("q4_k", (256, 2)), ("q8_0", (1,))])
def test_rows_that_are_not_whole_blocks_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"not whole {name} blocks of"):
        codec_of(name).encode(np.zeros(shape, dtype=np.float32))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ggml_oracle.CODECS)
def test_a_tensor_without_elements_has_no_bytes(name: str) -> None:
    assert codec_of(name).encode(np.empty((0, 512), dtype=np.float32)).shape == (0,)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ggml_oracle.CODECS)
def test_values_and_importance_stay_as_they_are(name: str) -> None:
    values, importance = quant_inputs.values("normal"), np.linspace(0, 1, 768, dtype=np.float32)
    kept = values.copy(), importance.copy()
    codec_of(name).encode(values, importance)
    assert np.array_equal(values, kept[0]) and np.array_equal(importance, kept[1])


def test_importance_changes_what_is_written_where_it_is_used() -> None:
    values = quant_inputs.values("normal")
    importance = quant_inputs.importances(768)["heavy"]
    for name in quants.names():
        codec = quants.codec(name)
        if codec.has_encoder:
            is_other = not np.array_equal(codec.encode(values, importance), codec.encode(values))
            assert is_other == codec.uses_importance, name


def test_a_mean_of_squares_is_summed_from_left_to_right() -> None:
    rows = np.float32([[1e4, 1.0, 1.0, -1.0], [0.0, 3.0, 4.0, 0.0]])
    assert _ggml.mean_squares(rows).tolist() == [float(np.float32(1e8 + 0.0)) / 4, 6.25]


def test_a_changed_rounding_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect: halves go away from zero, in the definition."""
    monkeypatch.setattr(_extension, "native", lambda: None)
    assert differing_blocks("q4_k", quant_inputs.values("normal"), None).size == 0
    monkeypatch.setattr(_fit, "nearest_int", lambda x: np.trunc(x + np.copysign(np.float32(0.5), x)).astype(np.int32))
    assert differing_blocks("q4_k", quant_inputs.values("normal"), None).size > 0


def test_a_sum_in_another_order_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect: sums from the last element to the first, in the definition."""
    monkeypatch.setattr(_extension, "native", lambda: None)
    right = _fit.total
    monkeypatch.setattr(_fit, "total", lambda terms: right(terms[::-1]))
    assert any(differing_blocks("q4_k", quant_inputs.values(kind), None).size for kind in ("normal", "heavy", "spikes"))


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", ggml_oracle.CODECS)
def test_real_weights_are_encoded_as_the_oracle_does(name: str, real_model: Callable[[str], Path]) -> None:
    if _extension.native() is None:
        pytest.skip("the compiled kernels are not built here: NumPy takes minutes")
    file = gguf.read(real_model("smollm2"))
    importance = np.random.default_rng(2).random(768).astype(np.float32)
    for tensor in ("blk.0.attn_q.weight", "blk.15.ffn_down.weight", "blk.29.ffn_up.weight"):
        values = file.array(tensor).reshape(-1, 768)
        for weights in (None, importance):
            assert differing_blocks(name, values, weights).size == 0, tensor
