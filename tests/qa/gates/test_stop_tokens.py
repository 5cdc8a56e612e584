"""Turns that do not end, end elsewhere or end at an ordinary token; healthy ones in every format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from judged_models import codes, one, speaking
from mutants._patient import open_patient
from mutants.models import TURN_OVER, Stock

GATE = "stop_tokens"
SPEC = tiny.spec()
IM_START = SPEC.tokens.index("<|im_start|>")


@pytest.mark.parametrize(
    ("variant", "file_format"),
    [("llama", "gguf"), ("qwen2", "safetensors"), ("mistral", "apr"), ("gemma3_text", "gguf")],
)
def test_a_newline_that_ends_a_turn_is_found(variant: str, file_format: str, tmp_path: Path, stock: Stock) -> None:
    patient = open_patient(stock.path(variant, file_format))
    newline = next(patient.token_id(t) for t in ("Ċ", "<0x0A>", "e") if t in patient.tokens())
    patient.set_stop_list([newline])
    result = one(patient.save(tmp_path / "sick"), GATE)
    assert codes(result) == {("fail", "extra")} and result.findings[0].where["token_id"] == newline


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_turn_that_ends_with_a_token_that_nobody_stops_at_is_found(
    file_format: str, tmp_path: Path, stock: Stock
) -> None:
    patient = open_patient(stock.path("qwen2", file_format))
    template = (patient.template() or "").replace("<|im_end|>", TURN_OVER)
    patient.set_template(template)
    patient.set_stop_list([])
    result = one(patient.save(tmp_path / "sick"), GATE)
    assert codes(result) == {("fail", "missing")} and result.findings[0].where["token"] == TURN_OVER


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_the_same_turn_is_healthy_when_the_list_says_so(file_format: str, tmp_path: Path, stock: Stock) -> None:
    patient = open_patient(stock.path("qwen2", file_format))
    patient.set_template((patient.template() or "").replace("<|im_end|>", TURN_OVER))
    patient.set_stop_list([patient.token_id(TURN_OVER)])
    assert one(patient.save(tmp_path / "healthy"), GATE).status == "pass"


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_stopping_at_what_begins_an_answer_is_found(file_format: str, tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, eos_token_id=IM_START, stop_token_ids=(IM_START,))
    result = one(speaking(tmp_path, file_format, spec), GATE)
    assert ("fail", "extra") in codes(result) and result.findings[0].where["token"] == "<|im_start|>"


def test_a_broken_template_is_left_to_its_own_gate(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, chat_template="{% for %}")
    assert codes(one(speaking(tmp_path, "gguf", spec), GATE)) == {("undecided", "template-error")}


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_model_without_a_template_passes_on_its_end_of_text(file_format: str, tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, chat_template=None)
    assert one(speaking(tmp_path, file_format, spec), GATE).status == "pass"


@pytest.mark.parametrize("variant", ["llama", "mistral", "qwen3", "gemma3_text", "phi3"])
@pytest.mark.parametrize("file_format", ["gguf", "safetensors"])
def test_healthy_models_pass(variant: str, file_format: str, stock: Stock) -> None:
    assert one(stock.path(variant, file_format), GATE).status == "pass"


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", "qwen2.5-coder:0.5b"])
def test_real_models_stop_where_their_template_ends_a_turn(alias: str, real_model: Callable[[str], Path]) -> None:
    result = one(real_model(alias), GATE)
    assert result.status == "pass" and result.measure["turn_end"][1] == "<|im_end|>"
