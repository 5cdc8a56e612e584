"""An endpoint that is one of our own models behind the endpoint's interface: what it tells is judged, and no more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.engines._subject import Subject
from apr.parity import logits
from apr.parity._divergence import diverge
from apr.parity._endpoint_logprobs import ask
from apr.parity._pair import Pair
from parity.endpoints import Behind, endpoint


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.write(folder / "f32", "gguf")
    tiny.write(folder / "q4_0", "gguf", codec="q4_0")
    return folder


def pair_of(models: Path, opened: list[Subject], behind: str = "f32", **options: Any) -> Pair:
    reference = Subject(models / "f32" / "model.gguf", threads=1)
    server = Subject(models / behind / "model.gguf", threads=1)
    candidate = endpoint(server, **options)
    opened += [reference, server, candidate]
    return Pair(reference, candidate)


def test_the_same_model_behind_an_endpoint_is_the_same(models: Path, opened: list[Subject]) -> None:
    result = logits.compare(pair_of(models, opened))
    assert result.verdict == "same", result.sentence
    assert all(figures["kl_max"] < 1e-6 for figures in result.measure["regimes"].values())
    json.dumps(result.measure, allow_nan=False)


def test_a_rounded_model_behind_an_endpoint_is_benign_drift(models: Path, opened: list[Subject]) -> None:
    result = logits.compare(pair_of(models, opened, "q4_0"))
    assert result.verdict == "different", result.sentence
    assert result.is_benign, result.sentence
    assert result.findings[0].cause == "drift.quantization"


def test_what_few_log_probabilities_show_is_never_more_than_the_whole(models: Path, opened: list[Subject]) -> None:
    pair = pair_of(models, opened, "q4_0")
    asked = ask(pair)[0]
    server = opened[1]
    fed = [*asked.prompt_ids, *asked.ids][:-1]
    from apr.parity._teacher_forced import rows_of

    rows = [rows_of(subject.session, fed)[len(asked.prompt_ids) - 1 :] for subject in (pair.reference, server)]
    whole = diverge(*rows).kl
    assert (asked.kl <= whole + 1e-6).all()
    assert asked.kl.sum() > 0.02 * whole.sum()


def test_an_endpoint_with_another_template_differs_in_its_templated_answers_only(
    models: Path, opened: list[Subject]
) -> None:
    def render(messages: Sequence[Mapping[str, Any]]) -> str:
        return "".join(f"### {m['role']}: {m['content']}\n" for m in messages)

    result = logits.compare(pair_of(models, opened, render=render))
    assert result.verdict == "different", result.sentence
    assert not result.is_benign
    assert result.findings[0].cause == "template.text", result.sentence
    assert result.measure["regimes"]["raw"]["n_flips"] == 0


def test_an_endpoint_without_log_probabilities_is_skipped(models: Path, opened: list[Subject]) -> None:
    result = logits.compare(pair_of(models, opened, n_top=0))
    assert result.verdict == "skipped"
    assert "no log-probabilities" in result.sentence


def test_an_endpoint_is_asked_raw_text_without_a_template(models: Path, opened: list[Subject]) -> None:
    pair = pair_of(models, opened)
    ask(pair)
    made = pair.candidate.endpoint
    assert isinstance(made, Behind)
    assert made.completed[0] == "def fib(n):\n"
    assert any("<|im_start|>" in text for text in made.completed), "a pre-formatted prompt is completed as it is"
    assert len(made.chatted) == 4
    assert np.isfinite(ask(pair)[0].kl).all()
