"""A chat template by itself: what no template may do is found, and whole ones are sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from apr.parity import template
from mutants.models import Stock
from parity.static_pairs import Edit, examined, operated
from parity.test_template import HEADER, becomes, replaced, twice


def test_a_whole_template_is_found_sound_by_itself(stock: Stock) -> None:
    for variant in ("llama", "mistral", "qwen2", "gemma3_text", "phi3"):
        result = examined(template, stock.path(variant, "gguf"))
        assert result.verdict == "same", f"{variant}: {result.sentence}"


@pytest.mark.parametrize(
    ("edit", "cause"),
    [
        (becomes("{% for m in messages %}{{ m['content'] }}{% endfor %}"), "template.not_applied"),
        (replaced(HEADER, ""), "template.generation_prompt"),
        (twice, "template.double"),
        (replaced("message['content']", "'hello'"), "template.text"),
        (replaced("{% endfor %}", ""), "template.text"),
        (lambda patient: patient.make_normal(patient.token_id("<|im_start|>")), "tokenizer.special"),
    ],
)
def test_a_fault_that_shows_by_itself_is_found_without_a_reference(
    edit: Edit, cause: str, stock: Stock, tmp_path: Path
) -> None:
    result = examined(template, operated(stock, tmp_path, "llama/gguf", edit))
    assert result.findings and result.findings[0].cause == cause, result.sentence


def test_a_base_model_cannot_be_told_from_one_that_lost_its_template(stock: Stock, tmp_path: Path) -> None:
    assert examined(template, operated(stock, tmp_path, "llama/gguf", becomes(None))).verdict == "cannot_tell"
