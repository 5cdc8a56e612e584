"""Free runs: the same function as `apr run`, in three modes, and near ties told from faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import apr
import tiny
from apr.engines._subject import Subject
from apr.parity import _free_running
from apr.parity._drift import Limits
from apr.parity._free_running import Free, check_itself, run_candidate, run_reference
from apr.parity._pair import Pair
from apr.parity._probes import of_regime
from apr.parity._teacher_forced import NEW_TOKENS, observe

FLOOR = Limits(1e-13, 1e-12, 1e-13, 1e-12)
COARSE = Limits(1e-13, 1e-12, 1e-2, 1e-1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    path: Path = tiny.write(tmp_path_factory.mktemp("model"), "gguf")
    made = Pair(Subject(path, threads=1), Subject(path, threads=1))
    yield made
    made.close()


@pytest.fixture(scope="module")
def runs(pair: Pair) -> list[Free]:
    return run_candidate(pair)


def test_a_run_is_what_apr_run_writes(pair: Pair, runs: list[Free]) -> None:
    alone = {(run.probe.regime, run.probe.id): run for run in runs if run.mode == "alone"}
    with apr.load(pair.reference.path, threads=1, activations="float32") as model:
        chat = model.generate(list(of_regime("chat")[0].messages), max_tokens=NEW_TOKENS)
        raw = model.generate("def fib(n):\n", regime="raw", max_tokens=NEW_TOKENS)
    assert alone["chat", "sum"].prompt_ids == chat.prompt_token_ids
    assert alone["chat", "sum"].ids == chat.output_token_ids
    assert alone["raw", "code"].ids == raw.output_token_ids


def test_a_pre_formatted_prompt_is_given_the_ids_of_the_conversation(runs: list[Free]) -> None:
    found = {run.probe.regime: run for run in runs if run.mode == "alone" and run.probe.id == "sum"}
    assert found["pre-formatted"].prompt_ids == found["chat"].prompt_ids


def test_every_regime_is_run_in_every_mode(runs: list[Free]) -> None:
    for mode in ("alone", "cached", "batch"):
        assert {run.probe.regime for run in runs if run.mode == mode} == {"raw", "chat", "multi-turn", "pre-formatted"}
    assert all(len(run.steps) == len(run.ids) for run in runs)


def test_the_reference_is_not_asked_twice(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    forced = {run.prompt_ids: run.output_ids for run in observe(pair)}
    monkeypatch.setattr(_free_running, "_finished", None)
    assert {run.prompt_ids: run.ids for run in run_reference(pair)} == forced


def test_a_healthy_candidate_agrees_with_itself(pair: Pair, runs: list[Free]) -> None:
    assert check_itself(pair, runs, FLOOR) == []


def test_two_modes_may_part_at_a_tie_and_nowhere_else(pair: Pair, runs: list[Free]) -> None:
    alone = next(run for run in runs if run.mode == "alone" and len(run.ids) == NEW_TOKENS)
    changed = (*alone.ids[:5], (alone.ids[5] + 1) % 300, *alone.ids[6:])

    def part(margin: float) -> list[Free]:
        first, other = (
            replace(run, steps=tuple(replace(step, margin=margin) for step in run.steps))
            for run in (alone, replace(alone, mode="batch", ids=changed))
        )
        return [first, other]

    assert check_itself(pair, part(0.01), COARSE) == []
    found = check_itself(pair, part(2.0), COARSE)
    assert [f.cause for f in found] == ["engine.kv_cache"]
    assert found[0].where["position"] == len(alone.prompt_ids) + 5
    assert [f.cause for f in check_itself(pair, part(0.01), FLOOR)] == ["engine.kv_cache"]
