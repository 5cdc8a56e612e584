"""Texts of an endpoint under the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.engines._subject import Subject
from apr.errors import EngineError
from apr.parity import generation
from apr.parity._pair import Pair
from parity.endpoints import endpoint


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.write(folder / "f32", "gguf")
    tiny.write(folder / "q4_0", "gguf", codec="q4_0")
    tiny.write(folder / "other", "gguf", weights=tiny.tensors(tiny.config(), seed=5))
    return folder


def pair_of(models: Path, opened: list[Subject], behind: str = "f32", **options: Any) -> Pair:
    reference = Subject(models / "f32" / "model.gguf", threads=1)
    server = Subject(models / behind / "model.gguf", threads=1)
    candidate = endpoint(server, **options)
    opened += [reference, server, candidate]
    return Pair(reference, candidate)


@pytest.mark.parametrize("n_top", [0, 5])
def test_the_same_texts_are_the_same(models: Path, opened: list[Subject], n_top: int) -> None:
    result = generation.compare(pair_of(models, opened, n_top=n_top))
    assert result.verdict == "same", result.sentence
    assert result.measure["regimes"]["raw"]["n_identical"] == 3
    json.dumps(result.measure, allow_nan=False)


def test_partings_of_a_rounded_model_are_benign(models: Path, opened: list[Subject]) -> None:
    result = generation.compare(pair_of(models, opened, "q4_0"))
    assert result.verdict == "different", result.sentence
    assert result.is_benign, result.sentence


def test_another_model_is_not_called_benign(models: Path, opened: list[Subject]) -> None:
    with_logprobs = generation.compare(pair_of(models, opened, "other"))
    assert not with_logprobs.is_benign
    without = generation.compare(pair_of(models, opened, "other", n_top=0))
    assert without.verdict == "cannot_tell"
    assert "log-probabilities would tell" in without.sentence


def test_an_endpoint_that_does_not_answer_leaves_it_open(models: Path, opened: list[Subject]) -> None:
    pair = pair_of(models, opened)

    def refuse(*_: Any, **__: Any) -> Any:
        raise EngineError("connection refused")

    pair.candidate.endpoint.complete = refuse  # type: ignore[method-assign]
    result = generation.compare(pair)
    assert result.verdict == "cannot_tell"
    assert "connection refused" in result.sentence
