"""Text that is lost on the way to the ids and back, by planted defects; healthy tokenizers of every kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from apr.qa import _texts
from apr.tokenizer.byte_alphabet import CHAR_OF_BYTE
from apr.tokenizer.detokenize import StreamingDetokenizer
from judged_models import codes, one, speaking
from mutants._patient import open_patient
from mutants.models import Stock

GATE = "tokenizer_roundtrip"
SPEC = tiny.spec()


def test_there_are_a_thousand_texts_none_twice_and_the_same_for_a_seed() -> None:
    made = list(_texts.texts(["ab", " c"], seed=3))
    assert len(made) == len(set(made)) >= 1000 and made == list(_texts.texts(["ab", " c"], seed=3))
    assert made != list(_texts.texts(["ab", " c"], seed=4))


def test_the_texts_hold_every_byte_that_utf_8_has() -> None:
    seen = {byte for text in _texts.texts(["a"], seed=0) for byte in text.encode()}
    assert seen == set(range(256)) - {0xC0, 0xC1, *range(0xF5, 0x100)}


@pytest.mark.parametrize("file_format", ["gguf", "apr"])
@pytest.mark.parametrize("byte", [0x7E, 0x9F, 0xE4])
def test_a_byte_without_a_token_is_found_with_its_position(byte: int, file_format: str, tmp_path: Path) -> None:
    tokens = [f"<gone{i}>" if t == CHAR_OF_BYTE[byte] else t for i, t in enumerate(SPEC.tokens)]
    result = one(speaking(tmp_path, file_format, dataclasses.replace(SPEC, tokens=tokens)), GATE)
    assert codes(result) == {("fail", "lost")}
    where = result.findings[0].where
    assert bytes([byte]) in where["text"].encode() and where["text_offset"] <= len(where["text"])
    assert where["text"][: where["text_offset"]] == where["decoded"][: where["text_offset"]]


@pytest.mark.parametrize("file_format", ["gguf", "safetensors"])
def test_control_characters_that_text_does_not_use_may_have_no_token(file_format: str, tmp_path: Path) -> None:
    tokens = [f"<gone{i}>" if t == CHAR_OF_BYTE[4] else t for i, t in enumerate(SPEC.tokens)]
    result = one(speaking(tmp_path, file_format, dataclasses.replace(SPEC, tokens=tokens)), GATE)
    assert result.status == "pass" and result.measure["absent_controls"] == [4]


def test_a_decoder_that_loses_blanks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apr.tokenizer.tokenizer import Tokenizer

    original = Tokenizer.decode
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: original(self, ids).replace("  ", " "))
    result = one(tiny.write(tmp_path, "gguf"), GATE)
    assert codes(result) == {("fail", "lost")} and result.measure["n_lost"] > 10


def test_a_stream_that_differs_from_the_whole_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StreamingDetokenizer, "finish", lambda self: "")
    original = StreamingDetokenizer.put
    monkeypatch.setattr(StreamingDetokenizer, "put", lambda self, i: original(self, i).replace("\ufffd", "?").lower())
    result = one(tiny.write(tmp_path, "gguf"), GATE)
    assert codes(result) == {("fail", "lost")} and "streamed" in result.findings[0].where


@pytest.mark.parametrize("file_format", ["gguf", "apr"])
def test_lost_bytes_of_a_sentencepiece_vocabulary_are_undecided(file_format: str, stock: Stock, tmp_path: Path) -> None:
    patient = open_patient(stock.path("gemma3_text", file_format))
    tokens = patient.tokens()
    ids = [tokens.index("<0xE4>"), tokens.index("<0xB8>")]
    for token_id in ids:
        tokens[token_id] = f"gone{token_id}"
    patient.set_tokens(tokens)  # type: ignore[attr-defined]
    result = one(patient.save(tmp_path / "sick"), GATE)
    assert result.status in ("fail", "undecided") and {c for _, c in codes(result)} <= {"lost", "unknown-characters"}


@pytest.mark.parametrize("variant", ["llama", "qwen2", "mistral", "gemma3_text", "phi3"])
@pytest.mark.parametrize("file_format", ["gguf", "safetensors"])
def test_healthy_tokenizers_lose_nothing(variant: str, file_format: str, stock: Stock) -> None:
    result = one(stock.path(variant, file_format), GATE)
    assert codes(result) == set() and result.measure["n_texts"] >= 1000 and result.measure["n_refused"] == 0


@pytest.mark.real
@pytest.mark.parametrize(("alias", "absent"), [("smollm2", 6), ("qwen2.5-coder:0.5b", 0)])
def test_real_tokenizers_lose_nothing(alias: str, absent: int, real_model: Callable[[str], Path]) -> None:
    result = one(real_model(alias), GATE)
    assert codes(result) == set() and len(result.measure["absent_controls"]) == absent
