"""Loops and other ends of sense in what a model writes; a few of them are what greedy choice does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import scripted
from apr.engines._subject import Subject
from apr.qa import gate
from apr.qa._judged import Judged
from apr.qa.gate import GateResult
from apr.qa.gates import degeneration
from scripted import Asked, Script

GATE = "degeneration"
SOUND = "In the evening the keeper wrote the hour and the wind into his book."


def asked() -> list[Asked]:
    return [scripted.raw(t) for t in degeneration._TEXTS] + [scripted.chat(t) for t in degeneration._PROMPTS]


def judged(path: Path, answers: dict[Asked, str], *, ends: bool = True) -> GateResult:
    subject = Subject(path, loader=Script(path, answers, ends=ends).loader(), threads=1)
    with Judged(subject, profile="release") as one:
        return gate.run("release", one, only=(GATE,)).gates[0]


def test_sound_answers_pass(tmp_path: Path) -> None:
    path = scripted.write(tmp_path)
    result = judged(path, dict.fromkeys(asked(), SOUND))
    assert (result.status, result.code) == ("pass", "sound") and result.interval is not None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("2+2\ns\ns\ns\ns\ns\ns\ns", "loop"),
        ("Step 1: go to the sea. Step 2: go to the sea. Step 3: go to the sea. Step 4: go to the sea. ", "varied-loop"),
        ("The word: Вечером рыбаки вернулись в гавань.", "script-drift"),
        ("a\x00b\x00c", "garbled"),
        ("go the go the the go go the go the " * 4, "loop"),
    ],
)
def test_degenerate_answers_fail_with_their_kind_and_place(answer: str, kind: str, tmp_path: Path) -> None:
    path = scripted.write(tmp_path)
    result = judged(path, dict.fromkeys(asked(), answer))
    assert (result.status, result.code) == ("fail", kind), result.message
    assert result.findings[0].where["position"] is not None and "character" in result.message


def test_tokens_that_show_nothing_are_a_loop_too(tmp_path: Path) -> None:
    path = scripted.write(tmp_path)
    result = judged(path, dict.fromkeys(asked(), "-" * 4), ends=False)
    assert (result.status, result.code) == ("fail", "token-loop")


def test_one_loop_among_many_answers_is_told_and_passes(tmp_path: Path) -> None:
    path = scripted.write(tmp_path)
    answers = dict.fromkeys(asked(), SOUND) | {asked()[0]: "so on and " * 8}
    result = judged(path, answers)
    assert (result.status, result.code) == ("pass", "isolated")
    assert result.measure["n_degenerate"] == 1 and "so on and" in result.message


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", pytest.param("qwen2.5-coder:0.5b", marks=pytest.mark.slow)])
def test_real_models_write_sound_text(alias: str, real_model: Callable[[str], Path]) -> None:
    with Judged(real_model(alias), profile="smoke") as one:
        assert gate.run("smoke", one, only=(GATE,)).gates[0].status == "pass"


@pytest.mark.real
@pytest.mark.slow
def test_gates_and_ups_in_each_others_places_show_as_loops(real_model: Callable[[str], Path]) -> None:
    subject = Subject(real_model("smollm2"), activations="int8")
    places = subject.checkpoint.tensors
    swapped = {}
    for i in range(subject.config.num_hidden_layers):
        gate_proj, up_proj = (f"model.layers.{i}.mlp.{name}_proj.weight" for name in ("gate", "up"))
        swapped |= {gate_proj: places[up_proj], up_proj: places[gate_proj]}
    with Judged(subject.with_tensors(swapped), profile="smoke") as one:
        result = gate.run("smoke", one, only=(GATE,)).gates[0]
    assert result.status == "fail" and result.measure["degenerate_share"] >= 0.5
