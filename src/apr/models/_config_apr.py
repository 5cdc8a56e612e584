"""ModelConfig from and to `.apr` metadata: upstream's typed keys, and the other spellings its readers accept.

What upstream's keys cannot say (windows, scalings, soft caps) stands in one custom key, `hf_config`, in config.json's words.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apr import models
from apr.errors import BadMetadata
from apr.models._config import ModelConfig
from apr.models._config_hf import from_hf, to_hf

HF_CONFIG_KEY = "hf_config"

# config.json's name: the spellings that upstream's readers take for it, canonical first
SPELLINGS: dict[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "hidden_dim", "d_model", "n_embd"),
    "num_hidden_layers": ("num_layers", "n_layers", "num_hidden_layers", "n_layer"),
    "num_attention_heads": ("num_heads", "n_heads", "num_attention_heads", "n_head"),
    "num_key_value_heads": ("num_kv_heads", "n_kv_heads", "num_key_value_heads"),
    "vocab_size": ("vocab_size", "n_vocab"),
    "intermediate_size": ("intermediate_size", "ffn_dim", "intermediate_dim", "n_inner"),
    "max_position_embeddings": ("max_position_embeddings", "max_seq_len", "context_length", "n_ctx"),
    "rms_norm_eps": ("rms_norm_eps", "layer_norm_eps", "norm_eps"),
    "rope_theta": ("rope_theta",),
    "head_dim": ("head_dim",),
}
_ARCHITECTURE_KEYS = ("hf_model_type", "architecture", "model_type")
_ROPE_SPLIT_HALVES = 2  # rope_type: 0 = adjacent pairs, 2 = split halves


def from_apr(path: Path, metadata: Mapping[str, Any], *, tied: bool) -> ModelConfig:
    """Read `.apr` metadata. `tied`: the output head is a copy of the embedding, or absent.

    Raises BadMetadata for a missing or bad value, UnsupportedError for an architecture that we do not run.
    """
    document = dict(_embedded_config(path, metadata))
    for name, spellings in SPELLINGS.items():
        said = {s: metadata[s] for s in spellings if metadata.get(s) is not None}
        if said:
            value = next(iter(said.values()))
            if any(other != value for other in said.values()):
                raise BadMetadata(path, f"{said} are spellings of {name} and differ; the file contradicts itself")
            if name in document and document[name] != value:
                raise BadMetadata(
                    path, f"{name} is {value!r}, and {document[name]!r} in {HF_CONFIG_KEY}; the file contradicts itself"
                )
            document[name] = value
    _settle_model_type(path, metadata, document)
    document.setdefault("tie_word_embeddings", tied)
    # absent here is "as many as heads" and "no window", not the defaults of a transformers class
    document.setdefault("num_key_value_heads", None)
    document.setdefault("sliding_window", None)
    return from_hf(path, document)


def to_apr(config: ModelConfig) -> dict[str, Any]:
    """The typed keys in upstream's order, then `hf_config` with what they cannot say."""
    architecture = models.for_model_type(config.model_type)
    keys: dict[str, Any] = {
        "architecture": config.model_type,
        "hf_architecture": architecture.HF_ARCHITECTURES[0],
        "hf_model_type": config.model_type,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "num_kv_heads": config.num_key_value_heads,
        "vocab_size": config.vocab_size,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "rope_theta": config.rope_theta,
        "rope_type": _ROPE_SPLIT_HALVES,
        "rms_norm_eps": config.rms_norm_eps,
        "head_dim": config.head_dim,
    }
    rest = {k: v for k, v in to_hf(config, torch_dtype="float32").items() if k not in SPELLINGS and v is not None}
    for said_elsewhere in ("architectures", "torch_dtype"):
        rest.pop(said_elsewhere)
    return keys | {HF_CONFIG_KEY: rest}


def _embedded_config(path: Path, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    embedded = metadata.get(HF_CONFIG_KEY, {})
    if not isinstance(embedded, dict):
        raise BadMetadata(path, f"{HF_CONFIG_KEY} is {type(embedded).__name__}, expected an object")
    return embedded


def _settle_model_type(path: Path, metadata: Mapping[str, Any], document: dict[str, Any]) -> None:
    """Put the model type into `document`. Raises BadMetadata if its two places name different architectures."""
    embedded = document.get("model_type")
    if embedded is None:
        document["model_type"] = _model_type(path, metadata)
        return
    if not any(isinstance(metadata.get(key), str) and metadata[key] for key in _ARCHITECTURE_KEYS):
        return
    outer = _model_type(path, metadata)
    if embedded != outer and models.for_model_type(embedded) is not models.for_model_type(outer):
        raise BadMetadata(
            path, f"the architecture is {outer!r}, and {embedded!r} in {HF_CONFIG_KEY}; the file contradicts itself"
        )


def _model_type(path: Path, metadata: Mapping[str, Any]) -> str:
    for key in _ARCHITECTURE_KEYS:
        value = metadata.get(key)
        if isinstance(value, str) and value:
            return str(_by_any_name(value).MODEL_TYPES[0]) if value not in _all_types() else value
    raise BadMetadata(path, "the metadata has no architecture, and the model cannot be run without it")


def _by_any_name(value: str) -> Any:
    return models.for_class(value) if value.endswith("ForCausalLM") else models.for_gguf(value.lower())


def _all_types() -> set[str]:
    from apr import _folder

    return {t for name in models.names() for t in _folder.load(models.__name__, name).MODEL_TYPES}
