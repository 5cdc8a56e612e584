"""What a model's configuration says, under Hugging Face's names, whatever the container.

`_config_hf`, `_config_gguf` and `_config_apr` read and write the three dialects. What a file left out and we filled in
is kept in `defaulted`; what a file says and nobody here reads is kept in `unread`: neither is dropped in silence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from apr.errors import BadMetadata

MAX_SIZE = 1 << 24  # no dimension of a published model comes near it; larger numbers are damage or an attack
MAX_LAYERS = 4096
MAX_FACTOR = 1e12

LayerType = Literal["full_attention", "sliding_attention"]
RopeType = Literal["linear", "llama3", "yarn", "longrope"]


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the context that a model was trained on (HF names and meanings)."""

    rope_type: RopeType
    factor: float = 1.0
    original_max_position_embeddings: int | None = None
    attention_factor: float | None = None
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    mscale: float | None = None  # yarn
    mscale_all_dim: float | None = None  # yarn
    truncate: bool = True  # yarn: round the correction range to whole dimensions
    short_factor: tuple[float, ...] = ()  # longrope
    long_factor: tuple[float, ...] = ()  # longrope; llama3 from GGUF, which holds factors and not their parameters


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Hyper-parameters under their Hugging Face names."""

    model_type: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    hidden_act: str = "silu"
    partial_rotary_factor: float = 1.0
    sliding_window: int | None = None
    layer_types: tuple[LayerType, ...] = ()
    rope_local_base_freq: float | None = None
    query_pre_attn_scalar: float | None = None
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    defaulted: tuple[str, ...] = field(default=(), compare=False)
    unread: tuple[str, ...] = field(default=(), compare=False)

    def layer_type(self, layer: int) -> LayerType:
        """Whether a layer sees everything before it, or a window."""
        if self.layer_types:
            return self.layer_types[layer]
        return "full_attention" if self.sliding_window is None else "sliding_attention"

    def window(self, layer: int) -> int | None:
        """The sliding window of a layer, in tokens; None for full attention."""
        return self.sliding_window if self.layer_type(layer) == "sliding_attention" else None


class Fields:
    """Typed reading of a metadata dictionary that notes defaults and leftovers.

    Every getter raises BadMetadata, naming the key, what was found and what was expected.
    """

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path = path
        self.values = values
        self.read: set[str] = set()
        self.defaulted: list[str] = []

    def get(self, *keys: str) -> Any:
        """The first of `keys` that is present and not null; None if none is."""
        self.read.update(keys)
        return next((self.values[key] for key in keys if self.values.get(key) is not None), None)

    def integer(self, *keys: str, default: int | None = None, least: int = 1, most: int = MAX_SIZE) -> int:
        """A whole number in a range; required when `default` is None."""
        value = self._value(keys, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise BadMetadata(self.path, f"{keys[0]} is {value!r}, expected a whole number from {least} to {most}")
        return value

    def number(self, *keys: str, default: float | None = None, above: float = 0.0, most: float = 1e12) -> float:
        """A number in (above, most]; required when `default` is None."""
        value = self._value(keys, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not above < value <= most:
            raise BadMetadata(
                self.path, f"{keys[0]} is {value!r}, expected a number above {above} and at most {most:g}"
            )
        return float(value)

    def optional_number(self, *keys: str) -> float | None:
        """A number above zero, or None if no key is there."""
        return None if self.get(*keys) is None else self.number(*keys)

    def optional_integer(self, *keys: str) -> int | None:
        """A whole number from 1, or None if no key is there."""
        return None if self.get(*keys) is None else self.integer(*keys)

    def flag(self, *keys: str, default: bool) -> bool:
        """True or false."""
        value = self.get(*keys)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise BadMetadata(self.path, f"{keys[0]} is {value!r}, expected true or false")
        return value

    def text(self, *keys: str, default: str | None = None) -> str:
        """A non-empty string; required when `default` is None."""
        value = self._value(keys, default)
        if not isinstance(value, str) or not value:
            raise BadMetadata(self.path, f"{keys[0]} is {value!r}, expected a text")
        return value

    def numbers(self, *keys: str) -> tuple[float, ...]:
        """A list of numbers above zero; empty if no key is there."""
        value = self.get(*keys)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(
            isinstance(v, int | float) and not isinstance(v, bool) and 0 < v <= MAX_FACTOR for v in value
        ):
            raise BadMetadata(self.path, f"{keys[0]} must be a list of numbers above 0 and at most {MAX_FACTOR:g}")
        return tuple(float(v) for v in value)

    def unread(self) -> tuple[str, ...]:
        """The keys that nobody asked for, sorted."""
        return tuple(sorted(set(self.values) - self.read))

    def _value(self, keys: tuple[str, ...], default: Any) -> Any:
        value = self.get(*keys)
        if value is None:
            if default is None:
                raise BadMetadata(self.path, f"the key {keys[0]} is missing, and the model cannot be run without it")
            self.defaulted.append(keys[0])
            return default
        return value


def check(path: Path, config: ModelConfig) -> ModelConfig:
    """Refuse configurations whose parts do not fit each other; return the good ones. Raises BadMetadata."""
    if config.num_attention_heads % config.num_key_value_heads:
        raise BadMetadata(
            path,
            f"{config.num_attention_heads} attention heads cannot share {config.num_key_value_heads} key-value heads evenly",
        )
    if not 0.0 < config.partial_rotary_factor <= 1.0:
        raise BadMetadata(
            path, f"{config.partial_rotary_factor:g} of each head is rotated; expected a share above 0 and at most 1"
        )
    if config.head_dim % 2:
        raise BadMetadata(path, f"head_dim is {config.head_dim}; rotary embeddings need an even number")
    if config.layer_types and len(config.layer_types) != config.num_hidden_layers:
        raise BadMetadata(
            path, f"layer_types has {len(config.layer_types)} entries for {config.num_hidden_layers} layers"
        )
    if config.rope_scaling is not None:
        _check_scaling(path, config, config.rope_scaling)
    return config


def head_dim_of(fields: Fields, key: str, *, hidden_size: int, heads: int) -> int:
    """The size of a head: what `key` says, else an even share of `hidden_size`. Raises BadMetadata."""
    if fields.get(key) is None and hidden_size % heads:
        raise BadMetadata(
            fields.path,
            f"{key} is missing, and the hidden size {hidden_size} is no multiple of {heads} attention heads",
        )
    return fields.integer(key, default=hidden_size // heads)


def _check_scaling(path: Path, config: ModelConfig, scaling: RopeScaling) -> None:
    rotated = math.ceil(int(config.head_dim * config.partial_rotary_factor) / 2)
    for name in ("short_factor", "long_factor"):
        factors = getattr(scaling, name)
        if factors and (len(factors) != rotated or not all(0 < v <= MAX_FACTOR for v in factors)):
            raise BadMetadata(path, f"{name} has {len(factors)} factors, expected {rotated} numbers above 0")
    if scaling.high_freq_factor <= scaling.low_freq_factor:
        raise BadMetadata(
            path,
            f"high_freq_factor is {scaling.high_freq_factor:g}, expected more than low_freq_factor, {scaling.low_freq_factor:g}",
        )
    if scaling.original_max_position_embeddings == 1:  # its logarithm divides
        raise BadMetadata(path, "original_max_position_embeddings is 1, expected at least 2")
