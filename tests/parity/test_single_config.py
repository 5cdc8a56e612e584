"""A configuration by itself: what tensors, ranges and publishers contradict; an unknown shape cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from apr.parity import metadata
from mutants.models import Stock
from parity.static_pairs import dropped, examined, operated, setting


def test_a_shape_that_nobody_published_cannot_be_told(stock: Stock) -> None:
    result = examined(metadata, stock.path("llama", "gguf"))
    assert result.verdict == "cannot_tell" and "rope_theta 100000" in result.sentence


@pytest.mark.parametrize(
    ("site", "key", "value"),
    [
        ("llama/gguf", "num_key_value_heads", 4),
        ("qwen2/safetensors", "intermediate_size", 64),
        ("qwen3/apr", "num_hidden_layers", 2),
        ("llama/safetensors", "vocab_size", 640),
    ],
)
def test_a_key_that_tensors_contradict_is_found_without_a_reference(
    site: str, key: str, value: int, stock: Stock, tmp_path: Path
) -> None:
    result = examined(metadata, operated(stock, tmp_path, site, setting(key, value)))
    assert (result.findings[0].cause, result.findings[0].where["key"]) == ("metadata.value", key)


def test_a_value_out_of_all_ranges_is_found_without_a_reference(stock: Stock, tmp_path: Path) -> None:
    result = examined(metadata, operated(stock, tmp_path, "llama/gguf", setting("rms_norm_eps", 0.5)))
    assert result.findings[0].where["key"] == "rms_norm_eps"


def test_a_required_key_that_is_gone_is_found_without_a_reference(stock: Stock, tmp_path: Path) -> None:
    result = examined(metadata, operated(stock, tmp_path, "llama/gguf", dropped("rms_norm_eps")))
    assert (result.findings[0].cause, result.findings[0].where["key"]) == ("metadata.missing", "rms_norm_eps")
