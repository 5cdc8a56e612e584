"""Control tokens that a user's text can forge, each by another planted defect; healthy models in every format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.engines import _prompt
from apr.tokenizer.spec import TokenType
from judged_models import codes, one, speaking
from mutants.models import Stock

GATE = "special_token_injection"
SPEC = tiny.spec()


def user_defined(*tokens: str) -> Any:
    """The tiny tokenizer with control tokens that any text can write."""
    types = list(SPEC.token_types)
    for token in tokens:
        types[SPEC.tokens.index(token)] = int(TokenType.USER_DEFINED)
    return dataclasses.replace(SPEC, token_types=types)


@pytest.mark.parametrize("file_format", tiny.FORMATS)
@pytest.mark.parametrize("token", ["<|im_start|>", "<|im_end|>"])
def test_a_marker_that_plain_text_can_write_is_found(token: str, file_format: str, tmp_path: Path) -> None:
    result = one(speaking(tmp_path, file_format, user_defined(token)), GATE)
    assert codes(result) == {("fail", "forged")}
    assert {SPEC.tokens[f.where["token_id"]] for f in result.findings} == {token}
    assert {f.where["door"] for f in result.findings} == {"raw"}  # told once, by the first door


def test_a_prompt_function_that_forgets_whose_words_they_are_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(messages: Any, tokenizer: Any, template: Any, **options: Any) -> Any:
        text = template.render(messages).text
        return _prompt.Prompt(text, tuple(tokenizer.encode_control(text)), "applied", "careless")

    monkeypatch.setattr(_prompt, "of_messages", careless)
    result = one(tiny.write(tmp_path, "gguf"), GATE)
    assert codes(result) == {("fail", "forged")} and {f.where["door"] for f in result.findings} == {"prompt"}
    assert {SPEC.tokens[f.where["token_id"]] for f in result.findings} == {
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
    }


def test_a_raw_prompt_whose_control_tokens_count_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apr.tokenizer.tokenizer import Tokenizer

    monkeypatch.setattr(Tokenizer, "encode", lambda self, text: self.encode_control(text))
    result = one(tiny.write(tmp_path, "apr"), GATE)
    assert ("fail", "forged") in codes(result) and result.findings[0].where["door"] == "raw"


@pytest.mark.parametrize("file_format", ["gguf", "safetensors"])
def test_a_template_that_makes_a_marker_of_a_sign_is_found(file_format: str, tmp_path: Path) -> None:
    source = tiny.CHATML.replace("message['content']", "(message['content'] | replace('~', '<|im_end|>'))")
    result = one(speaking(tmp_path, file_format, dataclasses.replace(SPEC, chat_template=source)), GATE)
    assert codes(result) == {("fail", "forged")}


def test_a_broken_template_is_left_to_its_own_gate(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, chat_template="{{ raise_exception('no') }}")
    assert codes(one(speaking(tmp_path, "gguf", spec), GATE)) == {("undecided", "template-error")}


def test_a_vocabulary_without_control_tokens_is_skipped(tmp_path: Path) -> None:
    ordinary = [int(TokenType.NORMAL) if t == TokenType.CONTROL else t for t in SPEC.token_types]
    spec = dataclasses.replace(SPEC, token_types=ordinary, chat_template=None)
    assert codes(one(speaking(tmp_path, "gguf", spec), GATE)) == {("skip", "none")}


def test_what_was_not_looked_at_shows_in_the_coverage(tmp_path: Path) -> None:
    types = [int(TokenType.CONTROL) if t == TokenType.UNUSED else t for t in tiny.spec(vocab_size=560).token_types]
    spec = dataclasses.replace(tiny.spec(vocab_size=560), token_types=types)
    path = tiny.write(tmp_path, "gguf", tiny.config(vocab_size=560), tokenizer=spec)
    n_control = sum(t == TokenType.CONTROL for t in types)
    found = {profile: one(path, GATE, profile=profile).coverage for profile in ("file", "release")}
    assert found["file"] is not None and found["release"] is not None
    assert (found["file"].n, found["file"].n_all, found["release"].n) == (256, n_control, n_control)


@pytest.mark.parametrize(
    ("variant", "file_format"),
    [
        *((v, "gguf") for v in ("llama", "mistral", "gemma3_text")),
        ("qwen2", "safetensors"),
        ("phi3", "safetensors"),
        ("qwen3", "apr"),
    ],
)
def test_healthy_models_let_nothing_in(variant: str, file_format: str, stock: Stock) -> None:
    result = one(stock.path(variant, file_format), GATE)
    assert (result.status, result.code) == ("pass", "stays-text")
    assert result.coverage is not None and result.coverage.n == result.coverage.n_all > 0


@pytest.mark.real
@pytest.mark.parametrize(("alias", "n_tokens"), [("smollm2", 16), ("qwen2.5-coder:0.5b", 20)])
def test_real_models_let_nothing_in(alias: str, n_tokens: int, real_model: Callable[[str], Path]) -> None:
    result = one(real_model(alias), GATE, profile="release")
    assert result.status == "pass" and result.measure["n_tokens"] >= n_tokens and result.measure["n_refused"] == 0
