"""Token ids by themselves: text that does not come back, and a beginning that is there twice."""

from __future__ import annotations

import pytest

from apr.parity import tokens
from mutants.models import Stock
from parity.static_pairs import examined
from parity.test_tokens import AddsBos, OneTooHigh, speaking


@pytest.mark.parametrize("variant", ["llama", "mistral", "gemma3_text", "phi3"])
def test_every_text_comes_back_by_itself(variant: str, stock: Stock) -> None:
    for file_format in ("gguf", "safetensors"):
        result = examined(tokens, stock.path(variant, file_format))
        assert result.verdict == "same", result.sentence


def test_a_text_that_does_not_come_back_is_found_without_a_reference(stock: Stock) -> None:
    with speaking(stock.path("llama", "gguf"), OneTooHigh) as one:
        result = tokens.examine(one)
        assert result.findings[0].cause == "tokenizer.vocab" and result.findings[0].where["text_offset"] >= 0


def test_a_second_bos_is_found_without_a_reference(stock: Stock) -> None:
    with speaking(stock.path("mistral", "gguf"), AddsBos) as one:
        assert tokens.examine(one).findings[0].cause == "tokenizer.bos"
