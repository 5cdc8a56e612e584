"""The weights link: each planted defect is named with its place; honest copies raise no alarm."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import gguf
import ggml_oracle
import numpy as np
import pytest
import tiny
from parity_subjects import compared, subject
from weight_defects import DEFECTS, EMBEDDING, HEAD, NORM1, O1, Q0, UP1, Defect

from apr.parity import weights
from apr.parity._pair import Pair

# (format, codec of the matrices): plain in all three, and behind a quantisation
WRITTEN = (("safetensors", "f16"), ("gguf", "q4_0"), ("apr", "f32"))
COPIES = (*WRITTEN, ("gguf", "f32"), ("gguf", "q8_0"), ("gguf", "q5_1"), ("safetensors", "f32"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("reference"), "safetensors")


@pytest.mark.parametrize("written", WRITTEN, ids=" ".join)
@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_a_planted_defect_is_named_with_its_place(
    defect: Defect, written: tuple[str, str], reference: Path, tmp_path: Path
) -> None:
    planted = tiny.tensors(tiny.config())
    defect.plant(planted)
    made = tiny.write(tmp_path, written[0], weights=planted, codec=written[1])
    result = compared(reference, made)
    assert result.verdict == "different" and not result.is_benign
    found = result.findings[0]
    assert (found.cause, found.where["tensor"]) == (defect.cause, defect.tensor), found.sentence
    assert {key: found.where.get(key) for key in defect.where} == defect.where
    assert len([f for f in result.findings if not f.is_benign]) == 1, [f.sentence for f in result.findings]


@pytest.mark.parametrize("written", COPIES, ids=" ".join)
@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_honest_copies_raise_no_alarm(model_type: str, written: tuple[str, str], tmp_path: Path) -> None:
    config = tiny.config(model_type)
    first = tiny.write(tmp_path / "first", "safetensors", config)
    second = tiny.write(tmp_path / "second", written[0], config, codec=written[1])
    result = compared(first, second)
    assert result.is_benign, result.sentence
    assert result.verdict == ("same" if written[1] == "f32" else "different")
    expected = {"f32": [], "f16": ["drift.precision"]}.get(written[1], ["drift.quantization"])
    assert [f.cause for f in result.findings] == expected


@pytest.mark.parametrize("codec", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "f16", "bf16"])
def test_two_encodings_of_one_original_raise_no_alarm(codec: str, tmp_path: Path) -> None:
    first = tiny.write(tmp_path / "first", "gguf", codec="q5_1")
    second = tiny.write(tmp_path / "second", "gguf", codec=codec)
    result = compared(first, second)
    assert result.is_benign, result.sentence
    assert result.verdict == ("same" if codec == "q5_1" else "different")


@pytest.mark.parity
@pytest.mark.parametrize("codec", ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q4_0", "q5_1"])
@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_weighted_quantisation_by_ggml_raises_no_alarm(
    codec: str, spread: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.config(**tiny.BLOCKS_OF_256)
    first = tiny.write(tmp_path / "first", "safetensors", config)
    made = write_ggml(tmp_path / "second", config, codec, spread, monkeypatch)
    result = compared(first, made)
    assert [f.cause for f in result.findings] == ["drift.quantization"], result.sentence


@pytest.mark.parity
@pytest.mark.parametrize("codec", ["q4_k", "q6_k", "q3_k"])
@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_a_defect_is_found_behind_a_k_quant(
    codec: str, defect: Defect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.config(hidden_size=256, intermediate_size=512, head_dim=64)
    if defect.name in ("head zeroed", "columns of a head zeroed", "head scaled", "heads reordered", "rows zeroed", "two rows exchanged"):
        pytest.skip("planted by the indices of the smaller model")
    planted = tiny.tensors(config)
    defect.plant(planted)
    first = tiny.write(tmp_path / "first", "safetensors", config)
    made = write_ggml(tmp_path / "second", config, codec, 1.0, monkeypatch, weights=planted)
    found = compared(first, made).findings[0]
    assert (found.cause, found.where["tensor"]) == (defect.cause, defect.tensor), found.sentence


def write_ggml(
    folder: Path,
    config: object,
    codec: str,
    spread: float,
    monkeypatch: pytest.MonkeyPatch,
    *,
    weights: dict[str, np.ndarray] | None = None,
) -> Path:
    """A GGUF file whose matrices ggml quantised, weighted by log-normal importance of this spread."""
    random = np.random.default_rng(0)

    def quantise(values: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
        importance = np.exp(spread * random.standard_normal(values.shape[1])).astype(np.float32) if spread else None
        return ggml_oracle.quantise(kind.name.lower(), values, importance).reshape(values.shape[0], -1)

    monkeypatch.setattr(gguf.quants, "quantize", quantise)
    monkeypatch.setattr(tiny, "SCALES", {})
    return tiny.write(folder, "gguf", config, weights, codec=codec)  # type: ignore[arg-type]
