"""The walk: the first broken link is named, proved by putting it right, and what is behind it is found too."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines import native
from apr.engines._base import Session
from apr.engines._subject import Subject
from apr.models._checkpoint import Checkpoint
from apr.parity.why import why, why_one

UP = "model.layers.1.mlp.up_proj.weight"
MADE = tiny.config("qwen2")


@pytest.fixture
def reference(tmp_path: Path) -> str:
    return str(tiny.write(tmp_path / "reference", "gguf", MADE))


def copy(folder: Path, *, weights: dict[str, np.ndarray] | None = None, **config: object) -> Path:
    return tiny.write(folder / "copy", "safetensors", dataclasses.replace(MADE, **config), weights)  # type: ignore[arg-type]


def scaled() -> dict[str, np.ndarray]:
    weights = tiny.tensors(MADE)
    weights[UP] = weights[UP] * np.float32(3)
    return weights


def test_a_healthy_copy_says_the_same(reference: str, tmp_path: Path) -> None:
    report = why(reference, str(copy(tmp_path)), threads=1)
    assert (report.verdict, report.cause, report.link, report.exit_code) == ("same", None, None, 0)
    assert report.whys == () and report.proof is None


def test_a_key_is_named_and_proved(reference: str, tmp_path: Path) -> None:
    report = why(reference, str(copy(tmp_path, rope_theta=100.0)), threads=1)
    assert (report.link, report.cause, report.where["key"]) == ("metadata", "metadata.value", "rope_theta")
    assert report.proof is not None and report.proof.downstream == "same"
    assert report.proof.logit_kl_before is not None and report.proof.logit_kl_before > 1e-4
    assert report.proof.logit_kl_after is not None and report.proof.logit_kl_after < 1e-9
    assert len(report.whys) == 5 and report.also == () and report.exit_code == 1


def test_a_second_cause_is_found_behind_the_first(reference: str, tmp_path: Path) -> None:
    report = why(reference, str(copy(tmp_path, weights=scaled(), rope_theta=100.0)), threads=1)
    assert report.cause == "metadata.value"
    assert [(f.cause, f.where["tensor"]) for f in report.also] == [("weights.scaled", UP)]
    assert report.proof is not None and report.proof.downstream == "different"
    assert "second cause" in report.sentence


def test_a_missing_stop_id_is_named_in_the_last_link(reference: str, tmp_path: Path) -> None:
    path = copy(tmp_path)
    document = json.loads((path / "config.json").read_text())
    for name in ("generation_config.json", "config.json"):
        (path / name).write_text(json.dumps((document if name == "config.json" else {}) | {"eos_token_id": 5}))
    report = why(reference, str(path), threads=1)
    assert report.exit_code == 1 and report.cause is not None
    assert report.cause.startswith(("stop.", "tokenizer.special")), report.sentence


def test_an_unreadable_candidate_is_a_finding_and_an_unreadable_reference_is_not(
    reference: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(Path(reference).read_bytes()[:1000])
    report = why(reference, str(broken), threads=1)
    assert (report.link, report.verdict, report.exit_code) == ("file", "different", 1)
    assert why(str(broken), reference, threads=1).exit_code == 5


def test_an_engine_that_computes_something_else_is_blamed_for_its_op(reference: str) -> None:
    def loader(checkpoint: Checkpoint, **options: object) -> Session:
        eps = dataclasses.replace(checkpoint.config, rms_norm_eps=0.1)
        return native.load(checkpoint.altered(config=eps), **options)  # type: ignore[arg-type]

    report = why(reference, Subject(reference, threads=1, loader=loader), threads=1)
    assert (report.link, report.cause, report.where["slot"]) == ("activations", "engine.op", "layers.0.attn_norm")
    assert report.proof is not None and report.proof.downstream == "same"


def test_rounded_weights_are_drift_and_no_defect(tmp_path: Path) -> None:
    made = tiny.config("llama", hidden_size=64, intermediate_size=96)
    original = tiny.write(tmp_path / "a", "safetensors", made)
    rounded = tiny.write(tmp_path / "b", "gguf", made, codec="q8_0")
    report = why(str(original), str(rounded), threads=1)
    assert (report.verdict, report.cause, report.benign, report.exit_code) == (
        "different",
        "drift.quantization",
        True,
        0,
    )


def test_one_file_that_does_not_contradict_itself_passes_and_says_what_it_cannot_know(reference: str) -> None:
    report = why_one(reference, threads=1)
    assert (report.benign, report.exit_code, report.reference) == (True, 0, None)
    assert "apr why ORIGINAL" in report.sentence


def test_one_file_with_a_zeroed_tensor_does_not_pass(tmp_path: Path) -> None:
    weights = tiny.tensors(MADE)
    weights[UP] = np.zeros_like(weights[UP])
    report = why_one(str(copy(tmp_path, weights=weights)), threads=1)
    assert (report.cause, report.where["tensor"], report.exit_code) == ("weights.zeroed", UP, 1)
