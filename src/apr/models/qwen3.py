"""Qwen3: Llama with a norm on each head of q and k before the rotation."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from apr.models._config import ModelConfig
from apr.models._decoder import Tap
from apr.models.llama import Model as Llama

MODEL_TYPES = ("qwen3",)
HF_ARCHITECTURES = ("Qwen3ForCausalLM",)
GGUF_ARCHITECTURES = ("qwen3",)


class Model(Llama):
    """Llama with head norms; GGUF files keep its heads as they are."""

    LAYER_NAMES: ClassVar[dict[str, str]] = Llama.LAYER_NAMES | {
        "self_attn.q_norm.weight": "attn_q_norm.weight",
        "self_attn.k_norm.weight": "attn_k_norm.weight",
    }
    GGUF_PERMUTES_QK: ClassVar[bool] = False

    @classmethod
    def layer_shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        """Llama's, and one norm weight a head dimension for q and k."""
        head = (config.head_dim,)
        return super().layer_shapes(config) | {"self_attn.q_norm.weight": head, "self_attn.k_norm.weight": head}

    def norm_heads(self, layer: int, q: np.ndarray, k: np.ndarray, tap: Tap) -> tuple[np.ndarray, np.ndarray]:
        """RMSNorm over each head."""
        name = f"layers.{layer}."
        q = tap(name + "q_norm", self.norm(f"model.{name}self_attn.q_norm.weight", q))
        return q, tap(name + "k_norm", self.norm(f"model.{name}self_attn.k_norm.weight", k))
