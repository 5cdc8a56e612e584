"""Rotary frequencies: the plain ones, and the four ways in use to stretch them.

Source: transformers `modeling_rope_utils.py` (the formulas and their defaults), computed in float32 as there.
"""

from __future__ import annotations

import math

import numpy as np

from apr.models._config import ModelConfig, RopeScaling


def inverse_frequencies(
    config: ModelConfig, *, n_positions: int, theta: float | None = None
) -> tuple[np.ndarray, float]:
    """Radians per position, float32 [rotary_dim / 2], and the factor that scales the tables.

    n_positions:  length of the sequence so far; only LongRoPE looks at it (short or long factors)
    theta:        overrides `config.rope_theta`, unscaled (Gemma 3's local layers)
    """
    rotary_dim = int(config.head_dim * config.partial_rotary_factor)
    plain = plain_frequencies(rotary_dim, theta=theta or config.rope_theta)
    scaling = config.rope_scaling
    if scaling is None or theta is not None:
        return plain, 1.0
    if scaling.rope_type == "linear":
        return plain / np.float32(scaling.factor), 1.0
    if scaling.rope_type == "llama3":
        return _llama3(plain, scaling, config), 1.0
    if scaling.rope_type == "yarn":
        return _yarn(plain, scaling, config, rotary_dim)
    return _longrope(plain, scaling, config, n_positions)


def plain_frequencies(rotary_dim: int, *, theta: float) -> np.ndarray:
    """theta^(-2i / rotary_dim), float32 [rotary_dim / 2]."""
    exponents = np.arange(0, rotary_dim, 2, dtype=np.float32) / np.float32(rotary_dim)
    frequencies: np.ndarray = np.float32(1.0) / np.power(np.float32(theta), exponents, dtype=np.float32)
    return frequencies


def llama3_factors(config: ModelConfig) -> np.ndarray:
    """float32 [rotary_dim / 2]: what llama3 scaling divides each plain frequency by (GGUF's `rope_freqs.weight`)."""
    plain = plain_frequencies(int(config.head_dim * config.partial_rotary_factor), theta=config.rope_theta)
    assert config.rope_scaling is not None
    factors: np.ndarray = plain / _llama3(plain, config.rope_scaling, config)
    return factors


def _original_positions(scaling: RopeScaling, config: ModelConfig) -> int:
    return scaling.original_max_position_embeddings or config.max_position_embeddings


def _llama3(plain: np.ndarray, scaling: RopeScaling, config: ModelConfig) -> np.ndarray:
    if scaling.long_factor:  # from a GGUF file, which holds the factors themselves
        return plain / np.asarray(scaling.long_factor, dtype=np.float32)
    original = _original_positions(scaling, config)
    wavelengths = np.float32(2 * math.pi) / plain
    longest, shortest = original / scaling.low_freq_factor, original / scaling.high_freq_factor
    smooth = (original / wavelengths - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blended = (1 - smooth) * plain / scaling.factor + smooth * plain
    scaled = np.where(wavelengths > longest, plain / scaling.factor, plain)
    is_between = (wavelengths <= longest) & (wavelengths >= shortest)
    return np.where(is_between, blended, scaled).astype(np.float32)


def _yarn(plain: np.ndarray, scaling: RopeScaling, config: ModelConfig, rotary_dim: int) -> tuple[np.ndarray, float]:
    original = _original_positions(scaling, config)

    def dimension(n_rotations: float) -> float:
        return rotary_dim * math.log(original / (n_rotations * 2 * math.pi)) / (2 * math.log(config.rope_theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    width = (high - low) or 0.001  # as in the source: avoids a division by zero
    ramp = np.clip((np.arange(rotary_dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(width), 0, 1)
    kept = 1 - ramp  # share of the plain, unscaled frequency
    frequencies = plain / np.float32(scaling.factor) * (1 - kept) + plain * kept
    return frequencies.astype(np.float32), yarn_factor(scaling)


def yarn_own_factor(factor: float, mscale: float = 1.0) -> float:
    """What YaRN multiplies its tables by when the configuration names no factor for that."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def yarn_factor(scaling: RopeScaling) -> float:
    """What the tables of cosines and sines are multiplied by, under YaRN."""
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return yarn_own_factor(scaling.factor, scaling.mscale) / yarn_own_factor(scaling.factor, scaling.mscale_all_dim)
    return yarn_own_factor(scaling.factor)


def _longrope(
    plain: np.ndarray, scaling: RopeScaling, config: ModelConfig, n_positions: int
) -> tuple[np.ndarray, float]:
    original = _original_positions(scaling, config)
    factors = scaling.long_factor if n_positions > original else scaling.short_factor
    attention = scaling.attention_factor
    if attention is None:
        attention = 1.0 if scaling.factor <= 1 else math.sqrt(1 + math.log(scaling.factor) / math.log(original))
    return plain / np.asarray(factors, dtype=np.float32), attention
