"""Tiny configurations of every architecture, with each rope scaling and window that we know."""

from __future__ import annotations

from typing import Any

import tiny
from apr.models._config import ModelConfig, RopeScaling

LLAMA3 = RopeScaling("llama3", 8.0, original_max_position_embeddings=32, low_freq_factor=1.0, high_freq_factor=4.0)
YARN = RopeScaling("yarn", 4.0, original_max_position_embeddings=32)
SHORT, LONG = tuple(1.0 + 0.125 * i for i in range(8)), tuple(2.0 + 0.5 * i for i in range(8))
LONGROPE = RopeScaling("longrope", 8.0, original_max_position_embeddings=32, short_factor=SHORT, long_factor=LONG)

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{model_type: (model_type, {}) for model_type in tiny.MODEL_TYPES},
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama biased": ("llama", {"attention_bias": True}),
    "llama wide heads": ("llama", {"head_dim": 32}),
    "llama partial": ("llama", {"partial_rotary_factor": 0.5}),
    "llama linear": ("llama", {"rope_scaling": RopeScaling("linear", 2.0)}),
    "llama llama3": ("llama", {"rope_scaling": LLAMA3}),
    "llama yarn": ("llama", {"rope_scaling": YARN}),
    "mistral window": ("mistral", {"sliding_window": 8}),
    "qwen2 window": ("qwen2", {"sliding_window": 8, "layer_types": ("full_attention", "sliding_attention")}),
    "qwen3 yarn": ("qwen3", {"rope_scaling": YARN, "tie_word_embeddings": True}),
    "gemma3 linear": ("gemma3_text", {"rope_scaling": RopeScaling("linear", 8.0)}),
    "gemma3 query scale": ("gemma3_text", {"query_pre_attn_scalar": 24.0}),
    "gemma3 soft cap": ("gemma3_text", {"final_logit_softcapping": 30.0}),
    "phi3 window": ("phi3", {"sliding_window": 8}),
    "phi3 longrope": ("phi3", {"rope_scaling": LONGROPE}),
}


def made(variant: str) -> ModelConfig:
    """The configuration of a variant."""
    model_type, changes = VARIANTS[variant]
    return tiny.config(model_type, **changes)
