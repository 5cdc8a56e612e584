"""A tokenizer by itself: what cannot be right under any original is found; an unknown vocabulary cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from apr.parity import tokenizer
from mutants.models import Stock
from parity.static_pairs import examined, operated
from parity.test_tokenizer import halve_merges, no_rule, wrong_bos, wrong_eos


def test_a_vocabulary_that_nobody_published_cannot_be_told(stock: Stock) -> None:
    assert examined(tokenizer, stock.path("qwen2", "gguf")).verdict == "cannot_tell"


@pytest.mark.parametrize(
    ("site", "edit", "cause"),
    [
        ("qwen2/gguf", no_rule, "tokenizer.pre"),
        ("llama/gguf", halve_merges, "tokenizer.merges"),
        ("qwen2/apr", wrong_eos, "tokenizer.special"),
        ("mistral/gguf", wrong_bos, "tokenizer.special"),
    ],
)
def test_a_fault_that_shows_by_itself_is_found_without_a_reference(
    site: str, edit: object, cause: str, stock: Stock, tmp_path: Path
) -> None:
    result = examined(tokenizer, operated(stock, tmp_path, site, edit))  # type: ignore[arg-type]
    assert [finding.cause for finding in result.findings] == [cause], result.sentence
