"""What a candidate's engine is held to, and when two files hold the same weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines._subject import Subject
from apr.errors import EngineError, MissingDependency, MissingTensor, TruncatedFile
from apr.models._config import RopeScaling
from apr.parity import _expectation
from apr.parity._expectation import expectation, same_arithmetic, same_weights
from apr.parity._pair import Pair
from parity import faulty_engines as faulty


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    weights = tiny.tensors(tiny.config("llama"))
    for file_format in tiny.FORMATS:
        tiny.write(folder / file_format, file_format)
    other = dict(weights)
    other["model.layers.1.mlp.down_proj.weight"] = weights["model.layers.1.mlp.down_proj.weight"] + np.float32(1e-3)
    tiny.write(folder / "other", "gguf", weights=other)
    tiny.write(folder / "rounded", "gguf", codec="q8_0")
    return folder


def path_of(models: Path, name: str) -> Path:
    return {"safetensors": models / name, "apr": models / name / "model.apr"}.get(name, models / name / "model.gguf")


def test_formats_hold_the_same_weights_and_a_changed_tensor_does_not(models: Path, opened: list[Subject]) -> None:
    subjects = {name: Subject(path_of(models, name)) for name in (*tiny.FORMATS, "other", "rounded")}
    opened += subjects.values()
    first = subjects["gguf"].checkpoint
    found = {name: same_weights(first, subject.checkpoint) for name, subject in subjects.items()}
    assert found == {"safetensors": True, "gguf": True, "apr": True, "other": False, "rounded": False}


def test_the_expectation_is_the_reference_for_the_same_weights(models: Path, opened: list[Subject]) -> None:
    reference, candidate = Subject(path_of(models, "gguf")), Subject(path_of(models, "apr"), activations="int8")
    opened += [reference, candidate]
    assert expectation(Pair(reference, candidate)) is reference


def test_the_expectation_is_our_engine_on_the_candidates_file_for_other_weights(
    models: Path, opened: list[Subject]
) -> None:
    reference = Subject(path_of(models, "gguf"))
    plain, faulted = (Subject(path_of(models, "rounded"), loader=loader) for loader in (None, faulty.plain_native))
    opened += [reference, plain, faulted]
    assert expectation(Pair(reference, plain)) is plain
    found = expectation(Pair(reference, faulted))
    assert found is not faulted
    assert found.loader is None
    assert found.checkpoint is faulted.checkpoint


def test_weights_put_in_by_a_counterfactual_count(models: Path, opened: list[Subject]) -> None:
    reference, candidate = Subject(path_of(models, "gguf")), Subject(path_of(models, "rounded"))
    opened += [reference, candidate]
    forced = candidate.with_tensors(dict(reference.checkpoint.tensors))
    assert expectation(Pair(reference, forced)) is reference


def test_numbers_as_a_file_keeps_them_ask_for_the_same_arithmetic() -> None:
    config = tiny.config("llama")
    assert same_arithmetic(config, dataclasses.replace(config, rms_norm_eps=float(np.float32(1e-6))))
    assert same_arithmetic(config, dataclasses.replace(config, max_position_embeddings=512))


@pytest.mark.parametrize(
    "change",
    [
        {"rope_theta": 10010.0},
        {"rms_norm_eps": 1e-5},
        {"num_key_value_heads": 4},
        {"rope_scaling": RopeScaling("linear", factor=2.0)},
        {"sliding_window": 8},
        {"final_logit_softcapping": 30.0},
    ],
    ids=str,
)
def test_other_numbers_ask_for_other_arithmetic(change: dict[str, object]) -> None:
    config = tiny.config("llama")
    assert not same_arithmetic(config, dataclasses.replace(config, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MissingTensor("no tensor"), "weights.missing"),
        (TruncatedFile("x", "short"), "file.corrupt"),
        (EngineError("refuses"), "engine.op"),
    ],
    ids=["missing", "corrupt", "engine"],
)
def test_a_candidate_that_cannot_be_run_is_a_finding(error: Exception, cause: str) -> None:
    result = _expectation.failed("logits", error)  # type: ignore[arg-type]
    assert result.verdict == "different"
    assert result.findings[0].cause == cause


def test_a_package_that_is_not_installed_is_no_finding() -> None:
    assert _expectation.failed("logits", MissingDependency("x", extra="y")).verdict == "skipped"


def test_an_error_of_the_reference_is_not_comparable(models: Path, opened: list[Subject]) -> None:
    def refuse(checkpoint: object, **options: object) -> object:
        raise EngineError("no memory")

    reference = Subject(path_of(models, "gguf"), loader=refuse)  # type: ignore[arg-type]
    candidate = Subject(path_of(models, "gguf"))
    opened += [reference, candidate]
    result = _expectation.loaded("logits", Pair(reference, candidate))
    assert result is not None
    assert result.verdict == "not_comparable"
