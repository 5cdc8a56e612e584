"""Verdicts of tensors: what a file as a whole says of its rounding, and what it cannot hide behind it."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

import ggml_oracle
import tiny
from apr.formats import open_model
from apr.kernels import quants
from mutants._gguf import GgufParts
from parity.weight_defects import UP1
from parity.weight_subjects import compared


def stretched_scales(path: Path, blocks: list[int]) -> Path:
    """A Q4_0 GGUF with the scales of some blocks of one tensor 1.4 times as large."""
    with open_model(path) as file:
        info = file.tensors["blk.1.ffn_up.weight"]
    raw = np.fromfile(path, dtype=np.uint8)
    table = raw[info.offset : info.offset + info.n_bytes].reshape(-1, 18)
    for block in blocks:
        scale = table[block, :2].view("<f2")
        scale *= np.float16(1.4)
    raw.tofile(path)
    return path


@pytest.mark.parametrize("blocks", [[21], [20, 21], list(range(20, 60))])
def test_scales_that_are_off_are_found_though_weighted_quantisers_make_such(blocks: list[int], tmp_path: Path) -> None:
    first = tiny.write(tmp_path / "first", "safetensors")
    second = stretched_scales(tiny.write(tmp_path / "second", "gguf", codec="q4_0"), blocks)
    result = compared(first, second)
    assert not result.is_benign
    assert result.findings[0].where["tensor"] == UP1


@pytest.mark.parametrize(("blocks", "is_benign"), [([21], True), (list(range(20, 60)), False)])
def test_a_file_that_says_it_was_weighted_may_have_few_such_blocks_but_no_run_of_them(
    blocks: list[int], is_benign: bool, tmp_path: Path
) -> None:
    first = tiny.write(tmp_path / "first", "safetensors")
    parts = GgufParts(stretched_scales(tiny.write(tmp_path / "second", "gguf", codec="q4_0"), blocks))
    parts.set("quantize.imatrix.file", "some.imatrix", kind=8)
    assert compared(first, parts.write(tmp_path / "third.gguf")).is_benign == is_benign


@pytest.mark.parity
def test_blocks_with_scales_of_their_own_throughout_a_file_are_a_weighted_quantiser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.config(hidden_size=512, intermediate_size=512, head_dim=128)
    first = tiny.write(tmp_path / "first", "safetensors", config)
    random = np.random.default_rng(0)
    counts = []

    def quantise(values: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
        importance = np.exp(2.5 * random.standard_normal(values.shape[1])).astype(np.float32)
        counts.append(values.shape)
        return ggml_oracle.quantise("q4_0", values, importance).reshape(values.shape[0], -1)

    monkeypatch.setattr(gguf.quants, "quantize", quantise)
    result = compared(first, tiny.write(tmp_path / "second", "gguf", config, codec="q4_0"))
    assert counts and result.is_benign, result.sentence


def test_two_encodings_of_one_original_may_differ_by_both_roundings(tmp_path: Path) -> None:
    first = tiny.write(tmp_path / "first", "gguf", codec="q4_0")
    second = tiny.write(tmp_path / "second", "gguf", codec="q4_1")
    assert compared(first, second).is_benign


def test_entirely_different_models_are_one_finding(tmp_path: Path) -> None:
    config = tiny.config()
    first = tiny.write(tmp_path / "first", "safetensors", config)
    second = tiny.write(tmp_path / "second", "gguf", config, tiny.tensors(config, seed=5), codec="q8_0")
    result = compared(first, second)
    assert [f.cause for f in result.findings] == ["weights.unexplained"]
    assert len(result.findings[0].where["tensors"]) == 21


def test_a_few_values_changed_in_a_plain_file_are_named_with_their_row(tmp_path: Path) -> None:
    config = tiny.config()
    planted = tiny.tensors(config)
    planted[UP1][17, 3:6] += np.float32(0.5)
    first = tiny.write(tmp_path / "first", "safetensors", config)
    (found,) = compared(first, tiny.write(tmp_path / "second", "gguf", config, planted)).findings
    assert (found.cause, found.where["tensor"], found.where["row"]) == ("weights.unexplained", UP1, 17)


@pytest.mark.parametrize("copy", ["f16", "bf16"])
def test_a_copy_in_half_precision_may_come_between(copy: str, tmp_path: Path) -> None:
    """f32 weights are often converted to a half-precision GGUF and quantised from that."""
    config = tiny.config(hidden_size=512, intermediate_size=512, head_dim=128)
    random = np.random.default_rng(0)
    weights = {
        name: array if array.ndim == 1 else (0.05 * random.standard_normal(array.shape)).astype(np.float32)
        for name, array in tiny.tensors(config).items()
    }
    copied = {
        name: quants.codec(copy).decode(quants.codec(copy).encode(array), array.shape)
        for name, array in weights.items()
    }
    first = tiny.write(tmp_path / "first", "safetensors", config, weights=weights)
    second = tiny.write(tmp_path / "second", "gguf", config, weights=copied, codec="q8_0")
    result = compared(first, second)
    assert result.is_benign and f"by way of a copy in {copy}" in result.sentence, result.sentence
    cut = {name: (a.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32) for name, a in weights.items()}
    third = tiny.write(tmp_path / "third", "gguf", config, weights=cut, codec="q8_0")
    assert not compared(first, third).is_benign, "cut off in place of rounded"
