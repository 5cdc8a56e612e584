"""Engines that forget the beginning, files with another rotary base, and contexts without an end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scripted
import tiny
from apr.engines import _language_model
from apr.engines._subject import Subject
from apr.qa import _passages, gate
from apr.qa._judged import Judged
from apr.qa.gate import GateResult
from apr.qa.gates import long_context
from judged_models import codes
from scripted import Ids, Script, ScriptedSession

GATE = "long_context"


def result_of(subject: Subject, profile: str = "smoke") -> GateResult:
    with Judged(subject, profile=profile) as one:
        return gate.run(profile, one, only=(GATE,)).gates[0]


def finding(path: Path, *, forgets: Callable[[Ids], bool] = lambda ids: False, base: float = 10000.0) -> Subject:
    """A model that finds each note in any log, unless it has forgotten it, and reads best with one rotary base."""
    script = Script(path, {})
    with Subject(path, "fake") as subject:
        tokenizer = subject.tokenizer
        notes = (_passages.EARLY, _passages.LATE)
        known = {tuple(tokenizer.encode(note.question)): tuple(tokenizer.encode(f" {note.answer}")) for note in notes}

    def next_of(history: Ids) -> int:
        for question, answer in known.items():
            for said in range(len(answer)):
                whole = question + answer[:said]
                if history[-len(whole) :] == whole and not forgets(history):
                    return answer[said]
        return script.end

    def change(session: ScriptedSession) -> None:
        session.next_of = next_of
        off = abs(np.log10(session.config.rope_theta / base))
        row = session.row

        def sharper(history: Ids) -> np.ndarray:
            # prose: the further from the right base, the more the wrong token is believed
            made = row(history)
            made[script.end] += 3.0 * off
            return made

        session.row = sharper  # type: ignore[method-assign]

    return Subject(path, loader=script.loader(change, margin=2.0), threads=1)


@pytest.mark.parametrize("profile", ["smoke", "release"])
def test_an_engine_that_finds_everything_passes(profile: str, tmp_path: Path) -> None:
    result = result_of(finding(scripted.write(tmp_path)), profile)
    assert result.status == "pass", result.message
    assert [f.code for f in result.findings] == ["refused", "found", "rope-theta"]
    found = result.findings[1]
    assert found.coverage is not None and found.coverage.n == found.measure["n_positions"] > 700
    assert found.coverage.n_all == scripted.CONTEXT


def test_an_engine_that_forgets_the_beginning_fails(tmp_path: Path) -> None:
    path = scripted.write(tmp_path)
    with Subject(path, "fake") as subject:
        asked = tuple(subject.tokenizer.encode(_passages.EARLY.question))
    result = result_of(finding(path, forgets=lambda ids: len(ids) > 700 and ids[-len(asked) :] == asked))
    assert ("fail", "lost-early") in codes(result) and ("fail", "lost-late") not in codes(result)


def test_an_engine_that_loses_its_thread_in_long_prompts_fails_both(tmp_path: Path) -> None:
    result = result_of(finding(scripted.write(tmp_path), forgets=lambda ids: len(ids) > 700))
    assert codes(result) == {("fail", "lost-early"), ("fail", "lost-late")}


def test_a_model_that_finds_nothing_in_a_short_log_leaves_it_undecided(tmp_path: Path) -> None:
    result = result_of(finding(scripted.write(tmp_path), forgets=lambda ids: True))
    assert codes(result) == {("undecided", "not-admitted")}


def test_a_base_that_the_weights_were_not_trained_with_fails(tmp_path: Path) -> None:
    result = result_of(finding(scripted.write(tmp_path), base=1e6))
    assert codes(result) == {("fail", "rope-theta")} and "weights" in result.message
    assert result.findings[-1].where["better"] > 10000.0


def test_logits_that_are_not_finite_at_a_late_position_fail(tmp_path: Path) -> None:
    from apr.engines._base import check_logits

    path = scripted.write(tmp_path)

    def change(session: ScriptedSession) -> None:
        whole = session.forward

        def forward(spans: Any, **options: Any) -> np.ndarray:
            logits = whole(spans, **options)
            if spans[0].cache.length > 500:
                logits[:] = np.nan
            check_logits(logits, spans)
            return logits

        session.forward = forward  # type: ignore[method-assign]

    result = result_of(Subject(path, loader=Script(path, {}).loader(change), threads=1))
    assert result.status == "fail" and "not finite" in result.message


def test_a_prompt_beyond_the_context_that_is_accepted_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = scripted.write(tmp_path)
    monkeypatch.setattr(_language_model, "check_prompt", lambda session, prompt: None)
    assert ("fail", "accepted") in codes(result_of(finding(path)))


def test_a_short_context_leaves_it_undecided(tmp_path: Path) -> None:
    result = result_of(Subject(tiny.write(tmp_path, "gguf", tiny.config(max_position_embeddings=64)), threads=1))
    assert ("undecided", "short-context") in codes(result)


@pytest.mark.parametrize("own", [1e4, 5e5, 1e6, 3e6])
def test_the_bases_tried_are_others_and_the_nearest_first(own: float) -> None:
    tried = long_context._bases(own, 3)
    assert len(tried) == 3 and all(max(base, own) / min(base, own) > 2.5 for base in tried)
    assert own == 1e4 or min(tried) < own < max(tried)


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", pytest.param("qwen2.5-coder:0.5b", marks=pytest.mark.slow)])
def test_real_models_pass(alias: str, real_model: Callable[[str], Path]) -> None:
    result = result_of(Subject(real_model(alias), activations="int8"))
    assert result.status == "pass", result.message


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("alias", "theta"),
    [("smollm2", 1e4), ("smollm2", 1e6), ("qwen2.5-coder:0.5b", 1e4), ("qwen2.5-coder:0.5b", 1e5)],
)
def test_another_rotary_base_in_a_real_model_is_found(
    alias: str, theta: float, real_model: Callable[[str], Path]
) -> None:
    subject = Subject(real_model(alias), activations="int8")
    result = result_of(subject.with_config(replace(subject.config, rope_theta=theta)), "release")
    assert ("fail", "rope-theta") in codes(result), result.message
