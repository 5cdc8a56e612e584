"""`.apr` metadata to a configuration and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.errors import BadMetadata, UnsupportedError
from apr.models._config import ModelConfig
from apr.models._config_apr import HF_CONFIG_KEY, SPELLINGS, from_apr, to_apr
from config_variants import VARIANTS, made

PATH = Path("model.apr")
# what upstream's own writers say of a model, and nothing else
UPSTREAM: dict[str, Any] = {
    "architecture": "qwen2", "hidden_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "vocab_size": 320,
    "intermediate_size": 96, "max_position_embeddings": 256, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6,
}  # fmt: skip


def read(metadata: dict[str, Any], *, tied: bool = False) -> ModelConfig:
    return from_apr(PATH, metadata, tied=tied)


@pytest.mark.parametrize("variant", VARIANTS)
def test_writing_and_reading_is_identity(variant: str) -> None:
    config = made(variant)
    again = read(json.loads(json.dumps(to_apr(config))))
    assert again == config
    assert again.unread == () and again.defaulted == ()


def test_what_upstream_writes_is_enough() -> None:
    expected = tiny.config("qwen2", rope_theta=1000000.0)
    assert read(UPSTREAM) == expected
    assert read(UPSTREAM, tied=True).tie_word_embeddings


@pytest.mark.parametrize(("name", "spelling"), [(name, s) for name, all_of_it in SPELLINGS.items() for s in all_of_it])
def test_every_spelling_is_read(name: str, spelling: str) -> None:
    config = tiny.config("qwen2", rope_theta=1000000.0)
    rest = {k: v for k, v in UPSTREAM.items() if k not in SPELLINGS[name]}
    assert read(rest | {spelling: getattr(config, name)}) == config


def test_two_spellings_that_differ_are_refused() -> None:
    with pytest.raises(BadMetadata, match=r"spellings of hidden_size and differ"):
        read(UPSTREAM | {"hidden_dim": 128})
    assert read(UPSTREAM | {"hidden_dim": 64}).hidden_size == 64


def test_a_contradiction_with_the_embedded_config_is_refused() -> None:
    with pytest.raises(BadMetadata, match=r"rope_theta is 1000000\.0, and 10000\.0 in hf_config"):
        read(UPSTREAM | {HF_CONFIG_KEY: {"rope_theta": 10000.0}})
    with pytest.raises(BadMetadata, match="the architecture is 'qwen2', and 'llama' in hf_config"):
        read(UPSTREAM | {HF_CONFIG_KEY: {"model_type": "llama"}})
    assert read(UPSTREAM | {"architecture": "llama", HF_CONFIG_KEY: {"model_type": "mistral"}}).model_type == "mistral"


@pytest.mark.parametrize("name", ["qwen2", "Qwen2ForCausalLM"])
@pytest.mark.parametrize("key", ["hf_model_type", "architecture", "model_type"])
def test_the_architecture_is_found_by_any_name_under_any_key(name: str, key: str) -> None:
    rest = {k: v for k, v in UPSTREAM.items() if k != "architecture"}
    assert read(rest | {key: name}).model_type == "qwen2"


def test_gguf_names_and_capitals_are_architectures() -> None:
    assert read(UPSTREAM | {"architecture": "gemma3"}).model_type == "gemma3_text"
    assert read(UPSTREAM | {"architecture": "Llama"}).model_type == "llama"


def test_no_architecture_or_an_unknown_one_is_refused() -> None:
    rest = {k: v for k, v in UPSTREAM.items() if k != "architecture"}
    with pytest.raises(BadMetadata, match="no architecture"):
        read(rest)
    for unknown in ("mamba", "MambaForCausalLM"):
        with pytest.raises(UnsupportedError, match=r"(?i)mamba.*known"):
            read(rest | {"architecture": unknown})


@pytest.mark.parametrize(
    ("key", "name"), [("hidden_size", "hidden_size"), ("num_layers", "num_hidden_layers"), ("vocab_size", "vocab_size")]
)
@pytest.mark.parametrize("value", [-1, 0, True, 1.5, "64"])
def test_a_bad_value_is_named_by_its_canonical_name(key: str, name: str, value: Any) -> None:
    with pytest.raises(BadMetadata, match=name):
        read(UPSTREAM | {key: value})
    with pytest.raises(BadMetadata, match=f"the key {name} is missing"):
        read({k: v for k, v in UPSTREAM.items() if k != key})


def test_an_embedded_config_that_is_no_object_is_refused() -> None:
    with pytest.raises(BadMetadata, match="hf_config is list, expected an object"):
        read(UPSTREAM | {HF_CONFIG_KEY: []})


def test_a_mistral_that_says_nothing_of_a_window_has_none() -> None:
    assert read(UPSTREAM | {"architecture": "mistral"}).sliding_window is None
    rest = {k: v for k, v in UPSTREAM.items() if k != "num_kv_heads"}
    assert read(rest).num_key_value_heads == 4
