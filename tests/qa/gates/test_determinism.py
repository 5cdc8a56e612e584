"""Engines whose answers depend on what they must not depend on, each caught under its own code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import scripted
import tiny
from apr.engines._subject import Subject
from apr.qa import gate
from apr.qa._judged import Judged
from apr.qa.gate import GateResult
from judged_models import codes
from scripted import Ids, Script, ScriptedSession

GATE = "determinism"


def result_of(subject: Subject) -> GateResult:
    with Judged(subject, profile="smoke") as one:
        return gate.run("smoke", one, only=(GATE,)).gates[0]


def spoiled(folder: Path, change: Callable[[ScriptedSession], None], *, threads: int = 2) -> GateResult:
    path = scripted.write(folder)
    return result_of(Subject(path, loader=Script(path, {}).loader(change), threads=threads))


@pytest.mark.parametrize("engine", ["native", "numpy", "fake"])
def test_our_engines_pass(engine: str, tmp_path: Path) -> None:
    result = result_of(Subject(tiny.write(tmp_path, "gguf", tiny.config("qwen2")), engine, threads=2))
    assert result.status == "pass", result.message
    assert [f.code for f in result.findings] == ["repeat", "cache", "batch", "threads"]
    assert all(f.measure["n_tokens"] > 0 and f.measure["max_logprob_change"] < 1e-3 for f in result.findings)


def test_an_engine_that_remembers_the_last_question_fails_repeat(tmp_path: Path) -> None:
    def spoil(session: ScriptedSession) -> None:
        asked: list[int] = []

        def next_of(history: Ids) -> int:
            asked.append(1)
            return len(asked) % 200

        session.next_of = next_of

    assert ("fail", "repeat") in codes(spoiled(tmp_path, spoil))


def test_an_engine_that_answers_by_its_threads_fails_threads(tmp_path: Path) -> None:
    def spoil(session: ScriptedSession) -> None:
        session.next_of = lambda history: 65 + session.threads

    result = spoiled(tmp_path, spoil)
    assert codes(result) == {("fail", "threads")} and result.findings[-1].where["position"] == 0


def test_an_engine_that_mixes_sequences_fails_batch(tmp_path: Path) -> None:
    def spoil(session: ScriptedSession) -> None:
        whole = session.forward

        def forward(spans: Any, **options: Any) -> Any:
            logits = whole(spans, **options)
            return logits[::-1].copy()

        session.next_of = lambda history: 65 + len(history) % 40
        session.forward = forward  # type: ignore[method-assign]

    assert codes(spoiled(tmp_path, spoil)) == {("fail", "batch")}


def test_a_cache_that_slips_fails_cache(tmp_path: Path) -> None:
    def spoil(session: ScriptedSession) -> None:
        session.next_of = lambda history: 65 + len(history) % 40
        made = session.new_cache

        def new_cache() -> Any:
            cache = made()
            forget = cache.truncate
            cache.truncate = lambda length: forget(max(0, length - 1)) if length < cache.length else None
            return cache

        session.new_cache = new_cache  # type: ignore[method-assign]

    assert codes(spoiled(tmp_path, spoil)) == {("fail", "cache")}


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", pytest.param("qwen2.5-coder:0.5b", marks=pytest.mark.slow)])
def test_real_models_pass(alias: str, real_model: Callable[[str], Path]) -> None:
    result = result_of(Subject(real_model(alias), activations="int8"))
    assert result.status == "pass", result.message
