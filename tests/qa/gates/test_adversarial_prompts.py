"""Models and engines that fall over some prompt, each planted; healthy ones stand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.engines import native
from apr.engines._subject import Subject
from apr.qa import _adversaries, gate
from apr.qa._judged import Judged
from apr.qa.gate import GateResult
from judged_models import altered, codes, one, speaking, weights_of

GATE = "adversarial_prompts"
SPEC = tiny.spec()


def under(path: Path, spoil: Callable[[Any], None]) -> GateResult:
    """The gate on a model whose loaded session is spoiled."""

    def load(*args: Any, **options: Any) -> Any:
        session = native.load(*args, **options)
        spoil(session)
        return session

    with Judged(Subject(path, activations="int8", loader=load, threads=1), profile="smoke") as subject:
        return gate.run("smoke", subject, only=(GATE,)).gates[0]


def forward_that(session: Any, change: Callable[[Any, np.ndarray], np.ndarray]) -> None:
    """Put `change` behind the session's forward pass."""
    original = session.forward

    def forward(spans: Any, **options: Any) -> np.ndarray:
        return change(spans, original(spans, **options))

    session.forward = forward


@pytest.mark.parametrize("has_template", [True, False])
def test_there_are_fifty_prompts_none_twice(has_template: bool) -> None:
    made = list(_adversaries.adversaries(["<|a|>", "<|b|>"], context=256, long=200, has_template=has_template))
    assert len({a.id for a in made}) == len(made) >= 50
    assert {"runs", "refused", "either"} == {a.expected for a in made}


@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_a_weight_that_overflows_is_found(model_type: str, tmp_path: Path) -> None:
    changes = {"model.norm.weight": weights_of(model_type)["model.norm.weight"] * np.float32(2e38)}
    result = one(altered(tmp_path, "safetensors", changes, model_type=model_type), GATE, profile="smoke")
    assert ("fail", "not-finite") in codes(result)
    assert all(f.where["prompt"] for f in result.findings if f.code == "not-finite")


def test_logits_that_are_not_finite_and_that_no_engine_looked_for_are_found(tmp_path: Path) -> None:
    def spoil(session: Any) -> None:
        def change(spans: Any, logits: np.ndarray) -> np.ndarray:
            return np.where(len(spans[0].token_ids) > 100, np.nan, logits).astype(np.float32)

        forward_that(session, change)

    result = under(tiny.write(tmp_path, "gguf"), spoil)
    assert codes(result) == {("fail", "not-finite")} and result.findings[0].where["position"] == 0


@pytest.mark.parametrize("file_format", ["gguf", "apr"])
def test_one_token_that_is_nan_is_found_by_the_prompts_that_hold_it(file_format: str, tmp_path: Path) -> None:
    table = weights_of()["model.embed_tokens.weight"].copy()
    table[ord("\x9f")] = np.nan
    changes = {"model.embed_tokens.weight": table}
    result = one(altered(tmp_path, file_format, changes), GATE, profile="smoke")
    assert codes(result) == {("fail", "not-finite")}
    assert 1 <= len([f for f in result.findings if f.code == "not-finite"]) < 40


def test_a_crash_is_laid_to_the_prompt_that_causes_it(tmp_path: Path) -> None:
    def spoil(session: Any) -> None:
        def change(spans: Any, logits: np.ndarray) -> np.ndarray:
            if any(len(span.token_ids) > 1 and ord("$") in span.token_ids for span in spans):
                raise IndexError("out of range")
            return logits

        forward_that(session, change)

    result = under(tiny.write(tmp_path, "gguf"), spoil)
    crashed = {f.where["prompt"] for f in result.findings if f.code == "crash"}
    assert "a shell's words" in crashed and "one blank" not in crashed and "tabs and returns" not in crashed


def test_an_engine_that_remembers_is_found(tmp_path: Path) -> None:
    def spoil(session: Any) -> None:
        passes = [0]

        def change(spans: Any, logits: np.ndarray) -> np.ndarray:
            passes[0] += 1
            return np.roll(logits, 1, axis=-1) if passes[0] > 10 else logits

        forward_that(session, change)

    assert codes(under(tiny.write(tmp_path, "gguf"), spoil)) == {("fail", "state-leak")}


def test_a_context_that_is_not_guarded_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apr.engines import _language_model

    monkeypatch.setattr(_language_model, "check_prompt", lambda *_: None)
    assert ("fail", "accepted") in codes(one(tiny.write(tmp_path, "gguf"), GATE, profile="smoke"))


def test_a_template_that_refuses_what_anybody_may_write_is_found(tmp_path: Path) -> None:
    source = "{% if '[' in messages[-1].content %}{{ raise_exception('no') }}{% endif %}" + tiny.CHATML
    spec = dataclasses.replace(SPEC, chat_template=source)
    assert codes(one(speaking(tmp_path, "gguf", spec), GATE, profile="smoke")) == {("fail", "refused")}


def test_ids_beyond_the_vocabulary_are_found(tmp_path: Path) -> None:
    def spoil(session: Any) -> None:
        def change(spans: Any, logits: np.ndarray) -> np.ndarray:
            wide = np.zeros((len(logits), logits.shape[1] + 4), dtype=np.float32)
            wide[:, : logits.shape[1]] = logits
            wide[:, -1] = 1e3
            return wide

        forward_that(session, change)

    found = codes(under(tiny.write(tmp_path, "gguf"), spoil))
    assert found and found <= {("fail", "outside"), ("fail", "crash")}


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_healthy_models_stand(model_type: str, tmp_path: Path) -> None:
    formats = dict(zip(tiny.MODEL_TYPES, tiny.FORMATS * 2, strict=True))
    result = one(tiny.write(tmp_path, formats[model_type], tiny.config(model_type)), GATE, profile="smoke")
    assert (result.status, result.code) == ("pass", "stands")
    assert result.measure["n_prompts"] >= 50 and result.measure["n_ran"] >= 40 and result.measure["n_failed"] == 0


def test_a_model_without_a_template_stands(tmp_path: Path) -> None:
    path = speaking(tmp_path, "gguf", dataclasses.replace(SPEC, chat_template=None))
    result = one(path, GATE, profile="smoke")
    assert result.status == "pass" and result.measure["n_prompts"] >= 50


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", pytest.param("qwen2.5-coder:0.5b", marks=pytest.mark.slow)])
def test_real_models_stand(alias: str, real_model: Callable[[str], Path]) -> None:
    result = one(real_model(alias), GATE, profile="smoke")
    assert result.status == "pass" and result.measure["n_failed"] == 0
