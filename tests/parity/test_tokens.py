"""The token link: what an engine does to text is named by its evidence; engines that agree raise no alarm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from apr.engines._subject import Subject
from apr.parity import tokens
from apr.parity._batteries import TEXTS
from apr.parity._pair import Pair
from mutants._patient import Patient
from mutants._patient_gguf import GgufPatient
from mutants.models import Stock
from parity.static_pairs import compared, operated, pair_of, subject


class Speaking:
    """An engine's voice that does one thing of its own."""

    def __init__(self, one: Subject) -> None:
        self.inner = one.voice
        self.one = one

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text)

    def encode_rendered(self, text: str) -> list[int]:
        return self.inner.encode_rendered(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.inner.decode(token_ids)

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        return self.inner.render(messages)

    def close(self) -> None:
        self.inner.close()

    def wrapped(self, text: str) -> list[int]:
        prompt = self.inner.render([{"role": "user", "content": text}])
        assert prompt is not None
        return self.inner.encode_rendered(prompt)


class AddsBos(Speaking):
    def encode_rendered(self, text: str) -> list[int]:
        return [self.one.spec.bos_token_id or 0, *super().encode_rendered(text)]


class DropsBos(Speaking):
    def encode(self, text: str) -> list[int]:
        return super().encode(text)[1:]


class ControlIsText(Speaking):
    def encode_rendered(self, text: str) -> list[int]:
        return self.one.tokenizer.encode(text)


class CutsLetters(Speaking):
    def encode(self, text: str) -> list[int]:
        whole = super().encode
        return [i for char in text for i in whole(char)] if text.isalpha() else whole(text)


class OneTooHigh(Speaking):
    def encode(self, text: str) -> list[int]:
        return [i + 1 if i == self.one.spec.tokens.index("e") else i for i in super().encode(text)]


class WrapsRaw(Speaking):
    def encode(self, text: str) -> list[int]:
        return self.wrapped(text)


class WrapsFormatted(Speaking):
    def encode_rendered(self, text: str) -> list[int]:
        return self.wrapped(text)


class Bare(Speaking):
    def render(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        return "".join(str(message.get("content", "")) for message in messages)


class NoTemplate(Speaking):
    def render(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        return None


def speaking(path: Path, kind: type[Speaking]) -> Subject:
    one = subject(path)
    vars(one)["voice"] = kind(subject(path))
    return one


ENGINES = [
    ("mistral", AddsBos, "tokenizer.bos"),
    ("gemma3_text", DropsBos, "tokenizer.bos"),
    ("qwen2", ControlIsText, "tokenizer.special"),
    ("llama", OneTooHigh, "tokenizer.vocab"),
    ("llama", CutsLetters, "tokenizer.pre"),
    ("qwen2", WrapsRaw, "template.double"),
    ("qwen2", WrapsFormatted, "template.double"),
    ("llama", Bare, "template.not_applied"),
    ("llama", NoTemplate, "template.missing"),
]


@pytest.mark.parametrize(("variant", "kind", "cause"), ENGINES)
def test_what_an_engine_does_is_named_and_undone_by_ours(
    variant: str, kind: type[Speaking], cause: str, stock: Stock
) -> None:
    path = stock.path(variant, "gguf")
    pair = Pair(subject(path), speaking(path, kind))
    result = tokens.compare(pair)
    assert result.findings and result.findings[0].cause == cause, result.sentence
    assert tokens.compare(pair.with_candidate(tokens.force(pair, result.findings))).verdict == "same"
    pair.close()


def test_a_difference_is_shown_with_its_place(stock: Stock) -> None:
    path = stock.path("llama", "gguf")
    pair = Pair(subject(path), speaking(path, CutsLetters))
    result = tokens.compare(pair)
    pair.close()
    row = result.measure["differences"][0]
    assert row["text"].isalpha() and row["reference_ids"] != row["candidate_ids"]
    assert row["reference_ids"][: row["position"]] == row["candidate_ids"][: row["position"]]
    assert 0 <= row["text_offset"] < len(row["text"])


@pytest.mark.parametrize("variant", ["llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3"])
def test_three_formats_of_one_model_are_no_alarm(variant: str, stock: Stock) -> None:
    for file_format in ("gguf", "apr"):
        result = compared(tokens, stock.path(variant, "safetensors"), stock.path(variant, file_format))
        assert result.verdict == "same", result.sentence
        assert result.measure["n_texts"] >= len(TEXTS) + 12


def test_composition_that_gguf_cannot_ask_for_is_a_note(stock: Stock, tmp_path: Path) -> None:
    def compose(patient: Patient) -> None:
        patient.tokenizer["normalizer"] = {"type": "NFC"}  # type: ignore[attr-defined]

    original = operated(stock, tmp_path, "qwen2/safetensors", compose)
    result = compared(tokens, original, stock.path("qwen2", "gguf"))
    assert result.verdict == "same" and result.measure["n_composed"] > 0, result.sentence
    # between two formats that can say it, it is a fault
    assert compared(tokens, original, stock.path("qwen2", "safetensors")).verdict == "different"


@pytest.mark.real
@pytest.mark.parity
@pytest.mark.parametrize("alias", ["smollm2", pytest.param("qwen2.5-coder:0.5b", marks=pytest.mark.slow)])
def test_llama_cpp_makes_the_same_ids_of_a_real_file(alias: str, real_model: Callable[[str], Path]) -> None:
    path = real_model(alias)
    result = compared(tokens, subject(path), Subject(path, "llama-cpp", threads=1))
    assert result.verdict == "same", result.sentence


def test_another_split_rule_shows_in_the_ids(stock: Stock, tmp_path: Path) -> None:
    def other_rule(patient: Patient) -> None:
        assert isinstance(patient, GgufPatient)
        patient.parts.set("tokenizer.ggml.pre", "gpt-2")

    with pair_of(stock, tmp_path, "qwen2/gguf", other_rule) as pair:
        assert tokens.compare(pair).findings[0].cause == "tokenizer.pre"
