"""Whether two configurations make the same model: every field, as the forward pass uses it.

Formats spell a configuration differently (GGUF has float32 and one name for Llama and Mistral, and rotary factors in place of their parameters),
so what is compared is what the spelling means.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from apr import models
from apr.models._config import ModelConfig
from apr.models._rope import inverse_frequencies

# how far factors may be off that were divided out and multiplied back in float32: a few roundings
ROPE_TOLERANCE = 4 * float(np.finfo(np.float32).eps)


def differences(source: ModelConfig, written: ModelConfig) -> list[str]:
    """One sentence a field that differs: the field, the source's value and the written one."""
    found = []
    for field in fields(ModelConfig):
        if not field.compare or field.name == "rope_scaling":
            continue
        before, after = meaning(source, field.name), meaning(written, field.name)
        if before != after:
            found.append(f"{field.name} is {before!r} in the source and {after!r} in the written file")
    return found + rope_differences(source, written)


def rope_differences(source: ModelConfig, written: ModelConfig) -> list[str]:
    """As `differences`, for the scaling of rotary frequencies: by the frequencies that it gives, short and long."""
    if source.rope_scaling == written.rope_scaling:
        return []
    found = []
    for n_positions in (1, source.max_position_embeddings):
        before, factor_before = inverse_frequencies(source, n_positions=n_positions)
        after, factor_after = inverse_frequencies(written, n_positions=n_positions)
        if before.shape != after.shape or not np.allclose(before, after, rtol=ROPE_TOLERANCE, atol=0.0):
            found.append(
                f"rope_scaling {source.rope_scaling} reads back as {written.rope_scaling}, which gives other frequencies at {n_positions} positions"
            )
        elif not np.isclose(factor_before, factor_after, rtol=ROPE_TOLERANCE, atol=0.0):
            found.append(
                f"the rotary tables' factor is {factor_before!r} in the source and {factor_after!r} in the written file"
            )
    return found


def notes(source: ModelConfig, written: ModelConfig) -> tuple[str, ...]:
    """What is spelled differently and means the same."""
    told = []
    if source.model_type != written.model_type:
        told.append(
            f"model_type {source.model_type!r} is {written.model_type!r} in the target, which has one name for both"
        )
    if source.rope_scaling != written.rope_scaling:
        before, _ = inverse_frequencies(source, n_positions=1)
        after, _ = inverse_frequencies(written, n_positions=1)
        off = float(np.max(np.abs(before / after - 1)))
        told.append(f"the scaling of rotary frequencies is spelled differently; the frequencies agree within {off:.1e}")
    return tuple(told)


def meaning(config: ModelConfig, name: str) -> Any:
    """A field's value with its spelling taken off."""
    architecture = models.for_model_type(config.model_type)
    if name == "model_type":
        return architecture.MODEL_TYPES[0]
    if name == "attention_bias":
        return architecture.Model.biased(config)
    if name == "partial_rotary_factor":
        return int(config.head_dim * config.partial_rotary_factor)
    if name == "query_pre_attn_scalar":
        return float(config.query_pre_attn_scalar or config.head_dim)
    if name == "layer_types":
        return tuple(config.window(layer) for layer in range(config.num_hidden_layers))
    value = getattr(config, name)
    # GGUF holds float32, and so does the arithmetic
    return float(str(np.float32(value))) if isinstance(value, float) else value
