"""ModelConfig from and to GGUF metadata (`llama.block_count` and its like).

What GGUF leaves out is filled in as llama.cpp fills it in; the keys so filled are listed in `defaulted`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from apr import models
from apr.errors import BadMetadata, UnsupportedError
from apr.models._config import Fields, LayerType, ModelConfig, RopeScaling, check, head_dim_of
from apr.models._rope import yarn_factor, yarn_own_factor

GEMMA3_PATTERN = 6  # every sixth layer sees everything: llama.cpp, llama-model.cpp, LLM_ARCH_GEMMA3
GEMMA3_LOCAL_THETA = 10000.0  # as there: rope_freq_base_train_swa
LLAMA3_ORIGINAL_CONTEXT = 8192  # of every published llama3 scaling; GGUF holds only the factors that came of it
_GEMMA3_27B_LAYERS = 62  # the one size whose query scale is not 1/sqrt(head_dim), as there


def from_gguf(
    path: Path,
    metadata: Mapping[str, Any],
    *,
    shapes: Mapping[str, tuple[int, ...]],
    frequency_factors: Mapping[str, tuple[float, ...]],
) -> ModelConfig:
    """Read GGUF metadata.

    shapes:             the tensors' shapes by GGUF name, row-major; the vocabulary is the rows of `token_embd.weight`
    frequency_factors:  the small rope tensors, decoded: `rope_freqs.weight`, `rope_factors_short.weight`, `rope_factors_long.weight`
    Raises BadMetadata for a bad or missing value, UnsupportedError for an architecture or rope type we do not run.
    """
    general = Fields(path, dict(metadata))
    arch = general.text("general.architecture")
    model_type = str(models.for_gguf(arch).MODEL_TYPES[0])
    prefix = f"{arch}."
    fields = Fields(path, {key[len(prefix) :]: value for key, value in metadata.items() if key.startswith(prefix)})
    heads = fields.integer("attention.head_count")
    hidden_size = fields.integer("embedding_length")
    layers = fields.integer("block_count", most=4096)
    head_dim = head_dim_of(fields, "attention.key_length", hidden_size=hidden_size, heads=heads)
    if fields.integer("attention.value_length", default=head_dim) != head_dim:
        raise UnsupportedError(f"{path}: value heads of another size than key heads")
    rotary_dim = fields.integer("rope.dimension_count", default=head_dim)
    context = fields.integer("context_length", default=2048, most=1 << 31)
    for name, factors in frequency_factors.items():
        if len(factors) != (rotary_dim + 1) // 2 or not all(0 < factor < np.inf for factor in factors):
            raise BadMetadata(
                path, f"{name} must hold {(rotary_dim + 1) // 2} factors above 0, half of a head's rotated part"
            )
    window, layer_types = _windows(fields, model_type, layers)
    embedding = shapes.get("token_embd.weight", (0,))
    fields.get("rope.dimension_sections", "attention.layer_norm_epsilon", "expert_count", "vocab_size")
    config = ModelConfig(
        model_type=model_type,
        hidden_size=hidden_size,
        intermediate_size=fields.integer("feed_forward_length"),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=fields.integer("attention.head_count_kv", default=heads),
        head_dim=head_dim,
        vocab_size=Fields(path, {"rows of token_embd.weight": embedding[0]}).integer("rows of token_embd.weight"),
        max_position_embeddings=context,
        rms_norm_eps=_shortest(fields.number("attention.layer_norm_rms_epsilon", most=1.0)),
        rope_theta=_shortest(fields.number("rope.freq_base", default=10000.0, above=1.0)),
        rope_scaling=_scaling(fields, context, frequency_factors),
        tie_word_embeddings="output.weight" not in shapes,
        attention_bias="blk.0.attn_q.bias" in shapes and model_type == "llama",
        hidden_act="gelu_pytorch_tanh" if model_type.startswith("gemma") else "silu",
        partial_rotary_factor=rotary_dim / head_dim,
        sliding_window=window,
        layer_types=layer_types,
        rope_local_base_freq=fields.number("rope.freq_base_swa", default=GEMMA3_LOCAL_THETA, above=1.0)
        if model_type == "gemma3_text"
        else None,
        query_pre_attn_scalar=_query_scalar(model_type, layers, hidden_size, heads, head_dim),
        attn_logit_softcapping=fields.optional_number("attn_logit_softcapping"),
        final_logit_softcapping=fields.optional_number("final_logit_softcapping"),
        defaulted=tuple(prefix + key for key in fields.defaulted if key not in _FINE_WITHOUT),
        unread=tuple(prefix + key for key in fields.unread()),
    )
    return check(path, config)


# keys that converters leave out where the default is the rule
_FINE_WITHOUT = {
    "attention.value_length",
    "attention.key_length",
    "rope.dimension_count",
    "attention.head_count_kv",
    "rope.freq_base_swa",
}


def to_gguf(config: ModelConfig) -> dict[str, Any]:
    """The architecture's keys, in the order that llama.cpp's converter writes them."""
    arch = models.for_model_type(config.model_type).GGUF_ARCHITECTURES[0]
    keys: dict[str, Any] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "rope.freq_base": config.rope_theta,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
    }
    if config.head_dim * config.num_attention_heads != config.hidden_size or config.model_type in (
        "qwen3",
        "gemma3_text",
    ):
        keys |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
    if config.model_type in ("llama", "mistral", "phi3") or config.partial_rotary_factor != 1.0:
        keys["rope.dimension_count"] = int(config.head_dim * config.partial_rotary_factor)
    if config.sliding_window is not None:
        keys["attention.sliding_window"] = config.sliding_window
    keys |= _pattern_to_gguf(config)
    if config.final_logit_softcapping is not None:
        keys["final_logit_softcapping"] = config.final_logit_softcapping
    keys |= _scaling_to_gguf(config.rope_scaling)
    if arch == "llama":
        keys["vocab_size"] = config.vocab_size
    return {"general.architecture": arch, **{f"{arch}.{key}": value for key, value in keys.items()}}


def _windows(fields: Fields, model_type: str, layers: int) -> tuple[int | None, tuple[LayerType, ...]]:
    window = fields.optional_integer("attention.sliding_window")
    pattern = fields.optional_integer("attention.sliding_window_pattern")
    if model_type != "gemma3_text" or window is None:
        # llama.cpp reads a window for phi3 and then ignores it, saying so; we compute what the metadata says
        return window, ()
    return window, every_nth(pattern or GEMMA3_PATTERN, layers)


def _shortest(value: float) -> float:
    """The shortest decimal that is the same float32: GGUF holds 1e-06 as 9.999999974752427e-07."""
    return float(str(np.float32(value)))


def _pattern_to_gguf(config: ModelConfig) -> dict[str, Any]:
    """Which layers have the window: GGUF can say "every n-th has not", and nothing else."""
    keys: dict[str, Any] = {}
    if config.rope_local_base_freq not in (None, GEMMA3_LOCAL_THETA):
        keys["rope.freq_base_swa"] = config.rope_local_base_freq
    if config.sliding_window is None or (
        set(config.layer_types) <= {"sliding_attention"} and config.model_type != "gemma3_text"
    ):
        return keys
    every = next((i + 1 for i, kind in enumerate(config.layer_types) if kind == "full_attention"), GEMMA3_PATTERN)
    if config.model_type != "gemma3_text" or config.layer_types != every_nth(every, config.num_hidden_layers):
        raise UnsupportedError(f"GGUF cannot say which layers of this {config.model_type} have the sliding window")
    return keys if every == GEMMA3_PATTERN else keys | {"attention.sliding_window_pattern": every}


def every_nth(every: int, n_layers: int) -> tuple[LayerType, ...]:
    """Gemma 3's rule: every n-th layer sees everything, the others a window."""
    return tuple("full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(n_layers))


def _query_scalar(model_type: str, layers: int, hidden_size: int, heads: int, head_dim: int) -> float | None:
    if model_type != "gemma3_text":
        return None
    return hidden_size / heads if layers == _GEMMA3_27B_LAYERS else float(head_dim)


def _scaling(fields: Fields, context: int, factors: Mapping[str, tuple[float, ...]]) -> RopeScaling | None:
    kind = fields.get("rope.scaling.type")
    factor = fields.optional_number("rope.scaling.factor", "rope.scale_linear")
    original = fields.optional_integer("rope.scaling.original_context_length")
    attention = fields.optional_number("rope.scaling.attn_factor")
    fields.get("rope.scaling.finetuned")
    if "rope_factors_long.weight" in factors:
        return RopeScaling(
            rope_type="longrope",
            factor=context / (original or context),
            original_max_position_embeddings=original,
            attention_factor=attention,
            short_factor=factors.get("rope_factors_short.weight", ()),
            long_factor=factors["rope_factors_long.weight"],
        )
    if "rope_freqs.weight" in factors:
        return RopeScaling(
            rope_type="llama3",
            factor=max(factors["rope_freqs.weight"]),
            original_max_position_embeddings=LLAMA3_ORIGINAL_CONTEXT,
            long_factor=factors["rope_freqs.weight"],
        )
    if kind in (None, "none") and factor is None:
        return None
    if kind in ("linear", None):
        return RopeScaling(rope_type="linear", factor=factor or 1.0)
    if kind == "yarn":
        return RopeScaling(
            rope_type="yarn",
            factor=factor or 1.0,
            original_max_position_embeddings=original,
            # llama.cpp multiplies YaRN's own factor by this key (ggml, rope_yarn); Hugging Face's name is for the product
            attention_factor=None if attention is None else attention * yarn_own_factor(factor or 1.0),
            beta_fast=fields.number("rope.scaling.yarn_beta_fast", default=32.0),
            beta_slow=fields.number("rope.scaling.yarn_beta_slow", default=1.0),
        )
    if kind == "longrope":
        raise BadMetadata(
            fields.path, "the tensor rope_factors_long.weight is missing, and longrope cannot be computed without it"
        )
    raise UnsupportedError(f"{fields.path}: rope scaling {kind!r}", known=("none", "linear", "yarn", "longrope"))


def _scaling_to_gguf(scaling: RopeScaling | None) -> dict[str, Any]:
    if scaling is None or scaling.rope_type == "llama3":  # llama3 lives in the tensor rope_freqs.weight
        return {}
    keys: dict[str, Any] = {}
    if scaling.rope_type in ("linear", "yarn"):
        keys = {"rope.scaling.type": scaling.rope_type, "rope.scaling.factor": scaling.factor}
    if scaling.original_max_position_embeddings is not None:
        keys["rope.scaling.original_context_length"] = scaling.original_max_position_embeddings
    if scaling.rope_type == "longrope" and scaling.attention_factor is not None:
        keys["rope.scaling.attn_factor"] = scaling.attention_factor
    if scaling.rope_type == "yarn":
        if (ratio := yarn_factor(scaling) / yarn_own_factor(scaling.factor)) != 1.0:
            keys["rope.scaling.attn_factor"] = ratio
        keys |= {"rope.scaling.yarn_beta_fast": scaling.beta_fast, "rope.scaling.yarn_beta_slow": scaling.beta_slow}
    return keys
