"""Hyper-parameters as a file itself spells them: which keys it says, and which a reader had to fill in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apr.formats._base import ModelFile
from apr.models._config_apr import HF_CONFIG_KEY, SPELLINGS

# Hugging Face's name -> GGUF's, behind the architecture's prefix
GGUF_NAMES: dict[str, str] = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rope_theta": "rope.freq_base",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "max_position_embeddings": "context_length",
    "partial_rotary_factor": "rope.dimension_count",
    "sliding_window": "attention.sliding_window",
    "layer_types": "attention.sliding_window_pattern",
    "rope_local_base_freq": "rope.freq_base_swa",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope_scaling": "rope.scaling.type",
    "rope_scaling.rope_type": "rope.scaling.type",
    "rope_scaling.factor": "rope.scaling.factor",
    "rope_scaling.original_max_position_embeddings": "rope.scaling.original_context_length",
    "rope_scaling.attention_factor": "rope.scaling.attn_factor",
    "rope_scaling.beta_fast": "rope.scaling.yarn_beta_fast",
    "rope_scaling.beta_slow": "rope.scaling.yarn_beta_slow",
}
# what a reader of each format cannot do without
_ALWAYS = ("architecture", "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
REQUIRED: dict[str, tuple[str, ...]] = {
    "gguf": (*_ALWAYS, "rms_norm_eps"),
    "apr": (*_ALWAYS, "vocab_size"),
    "safetensors": (*_ALWAYS, "vocab_size"),
}
_ARCHITECTURE = {
    "gguf": ("general.architecture",),
    "apr": ("hf_model_type", "architecture", "model_type"),
    "safetensors": ("model_type", "architectures"),
}


def spelling(file: ModelFile, key: str) -> str:
    """A key under the name that the file would use: `llama.rope.freq_base` for `rope_theta`."""
    if key == "architecture":
        return _ARCHITECTURE[file.format][0]
    if file.format == "gguf" and key in GGUF_NAMES:
        return f"{file.metadata.get('general.architecture', '?')}.{GGUF_NAMES[key]}"
    if file.format == "apr":
        return SPELLINGS.get(key, (f"{HF_CONFIG_KEY}.{key}",))[0]
    return key


def said(file: ModelFile, key: str) -> Any:
    """What the file itself says under a key, unchecked; None if it says nothing, or cannot say such a thing."""
    if key == "architecture":
        metadata = _document(file) if file.format == "safetensors" else file.metadata
        return next((metadata[name] for name in _ARCHITECTURE[file.format] if metadata.get(name)), None)
    if file.format == "gguf":
        return _said_in_gguf(file, key)
    document = _document(file)
    if file.format == "apr":
        found = (file.metadata.get(name) for name in SPELLINGS.get(key, ()))
        value = next((value for value in found if value is not None), None)
        if value is not None:
            return value
    return _said_in_document(document, key)


def _document(file: ModelFile) -> Mapping[str, Any]:
    name = (file.metadata, HF_CONFIG_KEY) if file.format == "apr" else (file.documents, "config.json")
    found = name[0].get(name[1])
    return found if isinstance(found, Mapping) else {}


def _said_in_gguf(file: ModelFile, key: str) -> Any:
    if key.startswith("rope_scaling"):
        for tensor in ("rope_freqs.weight", "rope_factors_long.weight"):
            if tensor in file.tensors:
                return tensor
    if key == "vocab_size" and "token_embd.weight" in file.tensors:
        return file.tensors["token_embd.weight"].shape[0]
    return file.metadata.get(spelling(file, key)) if key in GGUF_NAMES else None


def _said_in_document(document: Mapping[str, Any], key: str) -> Any:
    """In config.json's words, those about positions in their three places."""
    places: list[Any] = [document.get("rope_parameters"), document.get("rope_scaling")]
    name = key.removeprefix("rope_scaling.")
    if key == "rope_scaling":
        name = "rope_type"
    elif not key.startswith("rope_scaling."):
        places = [document, *places[:1]]
    if key == "rope_scaling.original_max_position_embeddings":
        places.append(document)
    names = {"rope_type": ("rope_type", "type"), "hidden_act": ("hidden_act", "hidden_activation")}.get(name, (name,))
    nested = [place.get("full_attention") for place in places if isinstance(place, Mapping)]
    for place in (*places, *nested):
        if isinstance(place, Mapping):
            for each in names:
                if place.get(each) is not None and not (each in ("rope_type", "type") and place[each] == "default"):
                    return place[each]
    return None
