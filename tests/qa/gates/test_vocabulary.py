"""Vocabularies that do not fit their model, each planted; padded and complete ones pass."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from apr.qa._vocabulary_order import disorder
from judged_models import codes, one, speaking
from mutants._patient import open_patient
from mutants.models import Stock

GATE = "vocabulary"
SPEC = tiny.spec()


@pytest.mark.parametrize("file_format", ["gguf", "apr"])
def test_more_tokens_than_rows_are_found(file_format: str, tmp_path: Path) -> None:
    result = one(speaking(tmp_path, file_format, tiny.spec(vocab_size=330)), GATE)
    assert codes(result) == {("fail", "too-many-tokens")} and "330 tokens for 320 rows" in result.message


@pytest.mark.parametrize("file_format", ["gguf", "apr"])
def test_a_padded_vocabulary_is_healthy_and_told(file_format: str, tmp_path: Path) -> None:
    result = one(speaking(tmp_path, file_format, tiny.spec(vocab_size=300)), GATE)
    assert result.status == "pass" and "padded" in {f.code for f in result.findings}


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_vocabulary_much_smaller_than_the_embedding_is_found(file_format: str, tmp_path: Path) -> None:
    config = tiny.config("qwen2", vocab_size=640)
    spec = tiny.spec(vocab_size=640 if file_format == "gguf" else 320)
    result = one(tiny.write(tmp_path, file_format, config, tokenizer=spec), GATE)
    assert codes(result) == {("fail", "too-few-tokens")}


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_no_end_of_text_is_found(file_format: str, tmp_path: Path) -> None:
    tokens = [re.sub(r"^<\|(.*)\|>$", r"<|my \1|>", token) for token in SPEC.tokens]
    silent = dataclasses.replace(SPEC, tokens=tokens, eos_token_id=None, stop_token_ids=(), pad_token_id=None)
    assert ("fail", "no-stop") in codes(one(speaking(tmp_path, file_format, silent), GATE))


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_an_ordinary_token_as_end_of_text_is_found(file_format: str, tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, eos_token_id=65, stop_token_ids=(65,))
    result = one(speaking(tmp_path, file_format, spec), GATE)
    assert codes(result) == {("fail", "ordinary-special")}
    assert result.findings[-2].where == {"key": "eos_token_id", "token_id": 65} or any(
        f.where == {"key": "eos_token_id", "token_id": 65} for f in result.findings
    )


@pytest.mark.parametrize("file_format", ["gguf", "apr"])
@pytest.mark.parametrize("variant", ["llama", "qwen2"])
def test_lost_merges_are_found(variant: str, file_format: str, tmp_path: Path, stock: Stock) -> None:
    patient = open_patient(stock.path(variant, file_format))
    patient.set_merges(patient.merges()[: len(patient.merges()) // 2])
    assert ("fail", "merges") in codes(one(patient.save(tmp_path / "sick"), GATE))


@pytest.mark.parametrize(("first", "second"), [("e", "t"), ("q", "z")])
@pytest.mark.parametrize("file_format", ["gguf", "safetensors"])
def test_exchanged_entries_are_out_of_order(
    file_format: str, first: str, second: str, tmp_path: Path, stock: Stock
) -> None:
    patient = open_patient(stock.path("qwen2", file_format))
    patient.swap_tokens(patient.token_id(first), patient.token_id(second))
    result = one(patient.save(tmp_path / "sick"), GATE)
    assert codes(result) == {("undecided", "out-of-order")}


def test_an_exchanged_merge_is_out_of_order(tmp_path: Path, stock: Stock) -> None:
    patient = open_patient(stock.path("llama", "gguf"))
    merges = patient.merges()
    merges[20], merges[60] = merges[60], merges[20]
    patient.set_merges(merges)
    assert ("undecided", "out-of-order") in codes(one(patient.save(tmp_path / "sick"), GATE))


def test_no_claim_is_made_of_a_vocabulary_that_was_never_in_order() -> None:
    shuffled = dataclasses.replace(SPEC, merges=list(reversed(SPEC.merges)))
    assert disorder(SPEC) is None
    assert disorder(shuffled) is None


def test_a_missing_tokenizer_is_a_failure(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    assert one(folder, GATE).status == "fail"


@pytest.mark.parametrize("file_format", ["gguf", "apr"])
def test_a_special_id_outside_the_vocabulary_is_a_failure(file_format: str, tmp_path: Path) -> None:
    patient = open_patient(tiny.write(tmp_path / "healthy", file_format))
    patient.set_id("eos", 5000)
    assert codes(one(patient.save(tmp_path / "sick"), GATE)) == {("fail", "tokenizer-error")}


def test_a_special_id_that_decodes_to_something_else_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apr.tokenizer.tokenizer import Tokenizer

    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: "x")
    assert ("fail", "decodes-otherwise") in codes(one(tiny.write(tmp_path, "gguf"), GATE))


def test_a_special_text_that_becomes_other_ids_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apr.tokenizer.tokenizer import Tokenizer

    monkeypatch.setattr(Tokenizer, "encode_control", lambda self, text, **_: self.encode(text))
    assert ("fail", "encodes-otherwise") in codes(one(tiny.write(tmp_path, "gguf"), GATE))


@pytest.mark.parametrize(
    ("variant", "file_format"), [("gemma3_text", "gguf"), ("phi3", "safetensors"), ("mistral", "apr")]
)
def test_healthy_vocabularies_pass(variant: str, file_format: str, stock: Stock) -> None:
    assert one(stock.path(variant, file_format), GATE).status == "pass"


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", "qwen2.5-coder:0.5b"])
def test_real_vocabularies_pass(alias: str, real_model: Callable[[str], Path]) -> None:
    result = one(real_model(alias), GATE)
    assert result.status == "pass" and result.findings[-1].measure["published"] in ("SmolLM", "Qwen2")


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", "qwen2.5-coder:0.5b"])
def test_a_real_vocabulary_with_two_entries_exchanged_fails(alias: str, real_model: Callable[[str], Path]) -> None:
    from apr.engines._subject import Subject

    with Subject(real_model(alias)) as subject:
        spec = subject.spec
    tokens = list(spec.tokens)
    a, b = tokens.index("\u0120the"), tokens.index("\u0120of")
    tokens[a], tokens[b] = tokens[b], tokens[a]
    found = disorder(dataclasses.replace(spec, tokens=tokens))
    assert disorder(spec) is None and found is not None and found.token_id in (a, b, a + 1, b + 1)
