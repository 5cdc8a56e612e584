"""Field by field: one fault is one difference, under the key that explains it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.models._config import ModelConfig
from apr.parity import _config_fields
from apr.parity._pair import Pair
from parity.static_pairs import subject


def differing(
    folder: Path, reference: ModelConfig, candidate: ModelConfig, **weights: Any
) -> tuple[list[str], list[str]]:
    """Keys and notes of two safetensors folders with the reference's weights."""
    first = tiny.write(folder / "first", "safetensors", reference, **weights)
    second = tiny.write(folder / "second", "safetensors", candidate, tiny.tensors(reference) | weights.get("more", {}))
    pair = Pair(subject(first), subject(second))
    notes: list[str] = []
    keys = [difference.key for difference in _config_fields.differences(pair, notes)]
    pair.close()
    return keys, notes


@pytest.mark.parametrize(
    ("model_type", "before", "after", "keys"),
    [
        ("mistral", {"sliding_window": 8}, {"sliding_window": 16}, ["sliding_window"]),
        ("mistral", {"sliding_window": 8}, {"sliding_window": None}, ["sliding_window"]),
        ("mistral", {"sliding_window": 256}, {"sliding_window": None}, []),
        ("gemma3_text", {}, {"layer_types": ("full_attention", "sliding_attention")}, ["layer_types"]),
        ("gemma3_text", {"query_pre_attn_scalar": 16.0}, {"query_pre_attn_scalar": 32.0}, ["query_pre_attn_scalar"]),
        ("llama", {"hidden_act": "swish"}, {"hidden_act": "silu"}, []),
        ("llama", {"rms_norm_eps": 1e-6}, {"rms_norm_eps": 1.0000000001e-6}, []),
        ("llama", {"tie_word_embeddings": True}, {"tie_word_embeddings": False}, ["tie_word_embeddings"]),
    ],
)
def test_one_fault_is_one_difference(
    model_type: str, before: dict[str, Any], after: dict[str, Any], keys: list[str], tmp_path: Path
) -> None:
    reference, candidate = (tiny.config(model_type, **changes) for changes in (before, after))
    assert differing(tmp_path, reference, candidate)[0] == keys


def test_biases_that_a_key_denies_are_the_keys_fault_and_lost_ones_the_weights(tmp_path: Path) -> None:
    biased, plain = tiny.config("llama", attention_bias=True), tiny.config("llama")
    assert differing(tmp_path / "denied", biased, plain)[0] == ["attention_bias"]
    first = tiny.write(tmp_path / "first", "safetensors", biased)
    second = tiny.write(tmp_path / "second", "gguf", plain)
    pair = Pair(subject(first), subject(second))
    notes: list[str] = []
    assert list(_config_fields.differences(pair, notes)) == [] and "weights" in notes[0]
    pair.close()


def test_more_rows_are_the_same_model_if_they_are_padding(tmp_path: Path) -> None:
    reference, candidate = tiny.config("llama"), tiny.config("llama", vocab_size=tiny.VOCAB_SIZE + 32)
    first = tiny.write(tmp_path / "first", "gguf", reference)
    second = tiny.write(tmp_path / "second", "gguf", candidate)
    pair = Pair(subject(first), subject(second))
    notes: list[str] = []
    assert list(_config_fields.differences(pair, notes)) == [] and "padding" in notes[0]
    pair.close()


@pytest.mark.parametrize(("change", "is_copy"), [(lambda x: x, True), (lambda x: x * np.float32(1.5), False)])
def test_a_copied_head_is_known_by_its_values(
    change: Callable[[np.ndarray], np.ndarray], is_copy: bool, tmp_path: Path
) -> None:
    config = tiny.config("llama")
    weights = tiny.tensors(config)
    weights["lm_head.weight"] = change(weights["model.embed_tokens.weight"])
    with subject(tiny.write(tmp_path, "gguf", config, weights)) as one:
        assert _config_fields.is_copied_head(one.checkpoint) is is_copy


def test_a_key_knows_the_fields_that_it_stands_in() -> None:
    assert _config_fields.fields_of("rope_scaling.factor") == ("rope_scaling",)
    assert _config_fields.fields_of("sliding_window") == ("sliding_window", "layer_types")
    assert _config_fields.fields_of("architecture") == ("model_type",)
    assert _config_fields.fields_of("config.json") == ()
