"""Gemma 3, text: four norms a layer, head norms, local layers with a window and their own rotary base, GeGLU, scaled embeddings.

Norm weights are factors here: safetensors files hold w for a factor of 1 + w, GGUF files hold the factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from apr.kernels._set import KernelSet
from apr.models._config import ModelConfig
from apr.models._decoder import Batch, Tap
from apr.models.qwen3 import Model as Qwen3

MODEL_TYPES = ("gemma3_text",)
HF_ARCHITECTURES = ("Gemma3ForCausalLM",)
GGUF_ARCHITECTURES = ("gemma3",)


class Model(Qwen3):
    """Qwen3's head norms, with a norm before and after both attention and feed-forward."""

    LAYER_NAMES: ClassVar[dict[str, str]] = Qwen3.LAYER_NAMES | {
        "post_attention_layernorm.weight": "post_attention_norm.weight",
        "pre_feedforward_layernorm.weight": "ffn_norm.weight",
        "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
    }
    HF_NORM_OFFSET: ClassVar[float] = 1.0

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray], ops: KernelSet) -> None:
        super().__init__(config, weights, ops)
        self.embed_scale = config.hidden_size**0.5
        self.attention_scale = (config.query_pre_attn_scalar or config.head_dim) ** -0.5

    @classmethod
    def layer_shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        """Qwen3's, and a norm on each side of the feed-forward."""
        hidden = (config.hidden_size,)
        return super().layer_shapes(config) | {
            "pre_feedforward_layernorm.weight": hidden,
            "post_feedforward_layernorm.weight": hidden,
        }

    def rope_base(self, layer: int) -> float | None:
        """Local layers turn by their own base, unscaled; global ones as the config says."""
        return self.config.rope_local_base_freq if self.config.layer_type(layer) == "sliding_attention" else None

    def block(self, layer: int, x: np.ndarray, batch: Batch, tap: Tap) -> np.ndarray:
        """One layer: x, float32 [n_tokens, hidden_size], to the same shape."""
        name = f"layers.{layer}."
        h = tap(name + "attn_norm", self.norm(f"model.{name}input_layernorm.weight", x))
        h = self.attend(layer, h, batch, tap)
        h = tap(name + "attn_post_norm", self.norm(f"model.{name}post_attention_layernorm.weight", h))
        x = tap(name + "attn_residual", x + h)
        h = tap(name + "ffn_norm", self.norm(f"model.{name}pre_feedforward_layernorm.weight", x))
        h = self.feed_forward(layer, h, tap)
        h = tap(name + "ffn_post_norm", self.norm(f"model.{name}post_feedforward_layernorm.weight", h))
        return tap(name + "out", x + h)
