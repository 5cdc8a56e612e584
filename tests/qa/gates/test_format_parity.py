"""Copies in other containers pass, honest rounding passes as drift, spoiled copies fail with the cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.convert import transcode
from apr.engines._subject import Subject
from apr.qa import gate
from apr.qa._judged import Judged
from apr.qa.gate import GateResult
from apr.qa.gates import format_parity
from judged_models import Q, altered, codes, weights_of

GATE = "format_parity"


def judged(reference: Path | None, candidate: Path, profile: str = "release") -> GateResult:
    original = Subject(reference, threads=1) if reference is not None else None
    with Judged(candidate, reference=original, profile=profile, threads=1) as one:
        return gate.run(profile, one, only=(GATE,)).gates[0]


@pytest.mark.parametrize(("first", "second"), [("safetensors", "gguf"), ("gguf", "apr"), ("apr", "safetensors")])
@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
def test_the_same_model_in_another_container_passes(first: str, second: str, model_type: str, tmp_path: Path) -> None:
    made = tiny.config(model_type)
    result = judged(tiny.write(tmp_path / "a", first, made), tiny.write(tmp_path / "b", second, made))
    assert not {code for status, code in codes(result) if status == "fail"}, result.message
    assert [f.where["link"] for f in result.findings] == list(format_parity.LINKS["release"])
    assert result.coverage is not None and (result.coverage.n, result.coverage.n_all) == (6, 9)


def test_the_weights_are_left_to_the_release(tmp_path: Path) -> None:
    result = judged(tiny.write(tmp_path / "a", "safetensors"), tiny.write(tmp_path / "b", "gguf"), "smoke")
    assert "weights" not in {f.where["link"] for f in result.findings}
    assert result.coverage is not None and (result.coverage.n, result.coverage.n_all) == (5, 9)


def test_honest_rounding_is_drift_and_passes(tmp_path: Path) -> None:
    result = judged(tiny.write(tmp_path / "a", "gguf"), tiny.write(tmp_path / "b", "gguf", codec="q8_0"))
    weights = next(f for f in result.findings if f.where["link"] == "weights")
    assert (weights.status, weights.code) == ("pass", "drift-quantization"), weights.message


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({Q: np.zeros((64, 64), dtype=np.float32)}, "weights-zeroed"),
        ({Q: np.ascontiguousarray(weights_of()[Q].T)}, "weights-transposed"),
        ({Q: weights_of()[Q] * np.float32(2.0)}, "weights-scaled"),
    ],
    ids=["zeroed", "transposed", "scaled"],
)
def test_a_spoiled_copy_fails_with_the_cause(change: dict[str, np.ndarray], code: str, tmp_path: Path) -> None:
    result = judged(tiny.write(tmp_path / "a", "safetensors"), altered(tmp_path / "b", "gguf", change))
    assert ("fail", code) in codes(result)
    assert next(f for f in result.findings if f.code == code).where["tensor"].endswith("q_proj.weight")


def test_another_rotary_base_fails(tmp_path: Path) -> None:
    copy = tiny.write(tmp_path / "b", "gguf", tiny.config(rope_theta=500000.0))
    assert ("fail", "metadata-value") in codes(judged(tiny.write(tmp_path / "a", "gguf"), copy))


def test_without_a_reference_it_is_skipped_with_what_to_type(tmp_path: Path) -> None:
    result = judged(None, tiny.write(tmp_path, "gguf"))
    assert (result.status, result.code) == ("skip", "no-reference") and "--reference" in result.message


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("alias", ["smollm2", "qwen2.5-coder:0.5b"])
def test_real_models_say_the_same_in_apr(alias: str, real_model: Callable[[str], Path], tmp_path: Path) -> None:
    original = real_model(alias)
    transcode.convert(original, tmp_path / "copy.apr", dequantize="f16")
    assert judged(original, tmp_path / "copy.apr").status == "pass"
