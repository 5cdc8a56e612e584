"""Stop ids: one that is missing and one too many are named; two ways to say the same set are no alarm."""

from __future__ import annotations

from pathlib import Path

import pytest

from apr.parity import stop
from mutants._patient import Patient
from mutants.models import TURN_OVER, Stock
from parity.static_pairs import compared, examined, found, operated, pair_of


def no_list(patient: Patient) -> None:
    patient.set_stop_list([])


def one_more(patient: Patient) -> None:
    patient.set_stop_list([patient.token_id(TURN_OVER), patient.token_id("e")])


@pytest.mark.parametrize("site", ["qwen2/gguf", "llama/apr", "qwen2/safetensors"])
@pytest.mark.parametrize(
    ("edit", "cause", "token"), [(no_list, "stop.missing", TURN_OVER), (one_more, "stop.extra", "e")]
)
def test_a_planted_fault_is_named_with_its_token(
    site: str, edit: object, cause: str, token: str, stock: Stock, tmp_path: Path
) -> None:
    with pair_of(stock, tmp_path, site, edit) as pair:  # type: ignore[arg-type]
        finding = found(stop, pair)
        assert (finding.cause, finding.where["token"]) == (cause, token)
        assert finding.where["token_id"] == pair.reference.spec.tokens.index(token)


def test_findings_are_reported_under_generation(stock: Stock, tmp_path: Path) -> None:
    with pair_of(stock, tmp_path, "qwen2/gguf", no_list) as pair:
        assert stop.compare(pair).link == "generation"


@pytest.mark.parametrize("variant", ["llama", "mistral", "qwen2", "gemma3_text", "phi3"])
def test_a_list_and_keys_that_say_the_same_are_no_alarm(variant: str, stock: Stock) -> None:
    for file_format in ("gguf", "apr"):
        result = compared(stop, stock.path(variant, "safetensors"), stock.path(variant, file_format))
        assert result.verdict == "same", result.sentence


def test_a_template_whose_turns_nobody_ends_is_found_without_a_reference(stock: Stock, tmp_path: Path) -> None:
    def other_end(patient: Patient) -> None:
        patient.set_template((patient.template() or "").replace("<|im_end|>", "<|im_start|>"))

    path = operated(stock, tmp_path, "llama/gguf", other_end)
    result = examined(stop, path)
    assert [(f.cause, f.where["token"]) for f in result.findings] == [("stop.missing", "<|im_start|>")]


def test_an_ordinary_token_that_ends_turns_is_found_without_a_reference(stock: Stock, tmp_path: Path) -> None:
    result = examined(stop, operated(stock, tmp_path, "llama/gguf", one_more))
    assert [(f.cause, f.where["token"]) for f in result.findings] == [("stop.extra", "e")]


@pytest.mark.parametrize("variant", ["llama", "mistral", "gemma3_text", "phi3"])
def test_a_whole_set_is_found_sound_by_itself(variant: str, stock: Stock) -> None:
    assert examined(stop, stock.path(variant, "gguf")).verdict == "same"
