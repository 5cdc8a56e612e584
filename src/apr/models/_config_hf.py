"""ModelConfig from and to `config.json`, in today's spelling (`rope_parameters`) and the older one (`rope_theta`, `rope_scaling`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from apr import models
from apr.errors import BadMetadata, UnsupportedError
from apr.models._config import Fields, LayerType, ModelConfig, RopeScaling, RopeType, check, head_dim_of

# keys that say nothing about the arithmetic of a forward pass in evaluation
_IRRELEVANT = frozenset(
    [
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "auto_map",
        "bos_token_id",
        "chunk_size_feed_forward",
        "cache_implementation",
        "dtype",
        "embd_pdrop",
        "eos_token_id",
        "id2label",
        "initializer_range",
        "is_encoder_decoder",
        "is_llama_config",
        "label2id",
        "model_type",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "pretraining_tp",
        "problem_type",
        "quantization_config",
        "resid_pdrop",
        "return_dict",
        "rope_interleaved",
        "torch_dtype",
        "transformers.js_config",
        "transformers_version",
        "unk_token_id",
        "use_cache",
    ]
)
_ORIGINAL = "original_max_position_embeddings"
# what each rope type reads besides its base
_ROPE_KEYS: dict[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", _ORIGINAL),
    "yarn": ("factor", _ORIGINAL, "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    "longrope": ("factor", _ORIGINAL, "attention_factor", "short_factor", "long_factor"),
}
_ACTIVATIONS = ("silu", "swish", "gelu_pytorch_tanh")
_THETA = 10000.0
_GEMMA3_THETA = 1000000.0

# what a config.json of each type means by leaving a key out, where that is not the rule for all: transformers, configuration_*.py
_CLASS_DEFAULTS: dict[str, dict[str, Any]] = {
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096, "max_position_embeddings": 131072},
    "qwen2": {"num_key_value_heads": 32, "max_position_embeddings": 32768},
    "qwen3": {"num_key_value_heads": 32, "max_position_embeddings": 32768, "head_dim": 128},
    "phi3": {"rms_norm_eps": 1e-5, "max_position_embeddings": 4096},
    "gemma3_text": {
        "num_key_value_heads": 4,
        "max_position_embeddings": 131072,
        "head_dim": 256,
        "sliding_window": 4096,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256,
    },
}
_QWEN_MAX_WINDOW_LAYERS = 28  # as there


def from_hf(path: Path, document: Mapping[str, Any]) -> ModelConfig:
    """Read the parsed `config.json` at `path`. Raises BadMetadata for a bad value, UnsupportedError for what we do not run."""
    model_type = Fields(path, dict(document)).text("model_type", default=_type_by_class(document))
    models.for_model_type(model_type)
    filled = {key: v for key, v in _CLASS_DEFAULTS.get(model_type, {}).items() if key not in document}
    fields = Fields(path, dict(document) | filled)
    fields.read.update(_IRRELEVANT)
    if fields.get("quantization_config") is not None:
        raise UnsupportedError(
            f"{path}: weights quantised by {_method(document)!r}; convert the unquantised model instead"
        )
    _refuse_what_we_do_not_compute(path, fields)
    hidden_size = fields.integer("hidden_size")
    heads = fields.integer("num_attention_heads")
    layers = fields.integer("num_hidden_layers", most=4096)
    rope = _rope_parameters(fields)
    max_positions = fields.integer("max_position_embeddings", default=2048, most=1 << 31)
    window, layer_types = _windows(fields, model_type, layers)
    config = ModelConfig(
        model_type=model_type,
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size"),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=fields.integer("num_key_value_heads", default=heads),
        head_dim=head_dim_of(fields, "head_dim", hidden_size=hidden_size, heads=heads),
        vocab_size=fields.integer("vocab_size"),
        max_position_embeddings=max_positions,
        rms_norm_eps=fields.number("rms_norm_eps", default=1e-6, most=1.0),
        rope_theta=rope.number(
            "rope_theta", default=_GEMMA3_THETA if model_type.startswith("gemma3") else _THETA, above=1.0
        ),
        rope_scaling=_scaling(rope, max_positions),
        tie_word_embeddings=fields.flag("tie_word_embeddings", default=model_type.startswith("gemma")),
        # transformers gives Mistral no biases, whatever its configuration says
        attention_bias=fields.flag("attention_bias", default=False) and model_type != "mistral",
        hidden_act=_activation(fields, model_type),
        partial_rotary_factor=rope.number("partial_rotary_factor", default=1.0, most=1.0),
        sliding_window=window,
        layer_types=layer_types,
        rope_local_base_freq=_local_theta(fields, model_type),
        query_pre_attn_scalar=fields.optional_number("query_pre_attn_scalar"),
        attn_logit_softcapping=fields.optional_number("attn_logit_softcapping"),
        final_logit_softcapping=fields.optional_number("final_logit_softcapping"),
        defaulted=(*filled, *fields.defaulted, *(k for k in rope.defaulted if k != "partial_rotary_factor")),
        unread=(*fields.unread(), *(f"rope.{key}" for key in rope.unread())),
    )
    return check(path, config)


def to_hf(config: ModelConfig, *, torch_dtype: str) -> dict[str, Any]:
    """`config.json` as a dictionary that transformers reads back to the same model (versions 4 and 5)."""
    architecture = models.for_model_type(config.model_type)
    document: dict[str, Any] = {"architectures": [architecture.HF_ARCHITECTURES[0]], "model_type": config.model_type}
    plain = """hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim vocab_size
    max_position_embeddings rms_norm_eps tie_word_embeddings attention_bias rope_theta"""
    document |= {name: getattr(config, name) for name in plain.split()}
    document["hidden_activation" if config.model_type.startswith("gemma") else "hidden_act"] = config.hidden_act
    document["rope_scaling"] = _scaling_to_hf(config.rope_scaling)
    if config.partial_rotary_factor != 1.0:
        document["partial_rotary_factor"] = config.partial_rotary_factor
    document["sliding_window"] = config.sliding_window
    if config.model_type.startswith("qwen"):
        document["use_sliding_window"] = config.sliding_window is not None
    optional = "query_pre_attn_scalar attn_logit_softcapping final_logit_softcapping rope_local_base_freq"
    document |= {name: getattr(config, name) for name in optional.split() if getattr(config, name) is not None}
    if config.model_type.startswith("gemma3"):  # where the key is missing, transformers takes 256
        scalar = config.query_pre_attn_scalar or float(config.head_dim)
        # transformers refuses a float here
        document["query_pre_attn_scalar"] = int(scalar) if scalar.is_integer() else scalar
    if config.layer_types:
        document["layer_types"] = list(config.layer_types)
    document["torch_dtype"] = torch_dtype
    if config.rope_scaling is not None and config.rope_scaling.rope_type == "longrope":
        document["original_max_position_embeddings"] = config.rope_scaling.original_max_position_embeddings
    return document


def _type_by_class(document: Mapping[str, Any]) -> str | None:
    classes = document.get("architectures")
    if isinstance(classes, list) and classes and isinstance(classes[0], str):
        return str(models.for_class(classes[0]).MODEL_TYPES[0])
    return None


def _method(document: Mapping[str, Any]) -> str:
    settings = document.get("quantization_config")
    return str(settings.get("quant_method", "?")) if isinstance(settings, dict) else "?"


def _rope_parameters(fields: Fields) -> Fields:
    """The rope keys in one place: today's `rope_parameters`, or the older top-level ones."""
    nested = fields.get("rope_parameters")
    old = fields.get("rope_scaling")
    for name, value in (("rope_parameters", nested), ("rope_scaling", old)):
        if value is not None and not isinstance(value, dict):
            raise BadMetadata(fields.path, f"{name} is {type(value).__name__}, expected an object")
    merged: dict[str, Any] = {}
    for key in ("rope_theta", "partial_rotary_factor"):
        if (value := fields.get(key)) is not None:
            merged[key] = value
    merged |= old or {}
    if nested and "full_attention" in nested:  # gemma3: one set a layer type; the sliding one is read by `_local_theta`
        nested = nested["full_attention"]
        if not isinstance(nested, dict):
            raise BadMetadata(
                fields.path, f"rope_parameters.full_attention is {type(nested).__name__}, expected an object"
            )
    merged |= nested or {}
    if (value := fields.get("original_max_position_embeddings")) is not None:
        merged["original_max_position_embeddings"] = value  # the outer one wins: transformers, standardize_rope_params
    return Fields(fields.path, merged)


def _local_theta(fields: Fields, model_type: str) -> float | None:
    if not model_type.startswith("gemma3"):
        return None
    nested = fields.get("rope_parameters")
    if isinstance(nested, dict) and isinstance(nested.get("sliding_attention"), dict):
        return Fields(fields.path, nested["sliding_attention"]).number("rope_theta", default=_THETA, above=1.0)
    return fields.number("rope_local_base_freq", default=_THETA, above=1.0)


def _activation(fields: Fields, model_type: str) -> str:
    # Gemma's older files hold both keys, and `hidden_act` is the one that its authors withdrew
    keys = ("hidden_activation", "hidden_act") if model_type.startswith("gemma") else ("hidden_act",)
    name = fields.text(*keys, default="silu")
    if name not in _ACTIVATIONS:
        raise UnsupportedError(f"{fields.path}: {keys[0]} is {name!r}, which is not computed here", known=_ACTIVATIONS)
    return name


def _scaling(rope: Fields, max_positions: int) -> RopeScaling | None:
    kind = rope.text("rope_type", "type", default="default")
    if "rope_type" in rope.defaulted:
        rope.defaulted.remove("rope_type")
    original = rope.optional_integer("original_max_position_embeddings")
    if kind == "default":
        return None
    if kind == "su":  # the first name of longrope
        kind = "longrope"
    if kind not in _ROPE_KEYS:
        raise UnsupportedError(f"{rope.path}: rope type {kind!r}", known=("default", *_ROPE_KEYS))
    stretch = max_positions / original if original and kind in ("yarn", "longrope") else None
    if kind == "longrope":
        for key in ("short_factor", "long_factor"):
            if not rope.numbers(key):
                raise BadMetadata(rope.path, f"{key} is missing, and longrope cannot be computed without it")
    scaling = RopeScaling(
        rope_type=cast(RopeType, kind),
        factor=rope.number("factor", default=stretch),
        original_max_position_embeddings=original,
        attention_factor=rope.optional_number("attention_factor"),
        low_freq_factor=rope.number("low_freq_factor", default=1.0),
        high_freq_factor=rope.number("high_freq_factor", default=4.0),
        beta_fast=rope.number("beta_fast", default=32.0),
        beta_slow=rope.number("beta_slow", default=1.0),
        mscale=rope.optional_number("mscale"),
        mscale_all_dim=rope.optional_number("mscale_all_dim"),
        truncate=rope.flag("truncate", default=True),
        short_factor=rope.numbers("short_factor"),
        long_factor=rope.numbers("long_factor"),
    )
    irrelevant = {"low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow"} - set(_ROPE_KEYS[kind])
    rope.defaulted[:] = [key for key in rope.defaulted if key not in irrelevant]
    return scaling


def _scaling_to_hf(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    document: dict[str, Any] = {"rope_type": scaling.rope_type}
    for name in _ROPE_KEYS[scaling.rope_type]:
        value = getattr(scaling, name)
        if value is not None:
            document[name] = list(value) if isinstance(value, tuple) else value
    return document


def _windows(fields: Fields, model_type: str, layers: int) -> tuple[int | None, tuple[LayerType, ...]]:
    """The sliding window, and which layers have it, by the rule of each family."""
    window = fields.optional_integer("sliding_window")
    named = fields.get("layer_types")
    first_windowed = fields.integer("max_window_layers", least=0) if _has(fields, "max_window_layers") else None
    pattern = fields.optional_integer("sliding_window_pattern", "_sliding_window_pattern")
    if model_type.startswith("qwen") and not fields.flag("use_sliding_window", default=False):
        return None, ()
    if window is None:
        return None, ()
    if named is not None:
        if not isinstance(named, list) or not all(kind in ("full_attention", "sliding_attention") for kind in named):
            raise BadMetadata(fields.path, "layer_types may hold only 'full_attention' and 'sliding_attention'")
        return window, tuple(named)
    if model_type.startswith("gemma3"):
        every = pattern or 6
        return window, tuple("full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers))
    if model_type.startswith("qwen"):
        first = _QWEN_MAX_WINDOW_LAYERS if first_windowed is None else first_windowed
        return window, tuple("sliding_attention" if i >= first else "full_attention" for i in range(layers))
    return window, ()


def _has(fields: Fields, key: str) -> bool:
    return fields.get(key) is not None


def _refuse_what_we_do_not_compute(path: Path, fields: Fields) -> None:
    """Flags that change the arithmetic and that no architecture here has."""
    for key in ("mlp_bias", "use_bidirectional_attention"):
        if fields.flag(key, default=False):
            raise UnsupportedError(f"{path}: {key} is true, which is not computed here")
