"""Phi-3 and Phi-4-mini: Llama with fused projections, and LongRoPE for the long ones.

q, k and v lie in one tensor, gate and up in another, in both safetensors and GGUF; they stay so here.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from apr.models._config import ModelConfig
from apr.models.llama import Model as Llama

MODEL_TYPES = ("phi3",)
HF_ARCHITECTURES = ("Phi3ForCausalLM",)
GGUF_ARCHITECTURES = ("phi3",)


class Model(Llama):
    """Llama with fused projections; GGUF files keep its heads as they are."""

    LAYER_NAMES: ClassVar[dict[str, str]] = {
        "input_layernorm.weight": "attn_norm.weight",
        "self_attn.qkv_proj.weight": "attn_qkv.weight",
        "self_attn.o_proj.weight": "attn_output.weight",
        "post_attention_layernorm.weight": "ffn_norm.weight",
        "mlp.gate_up_proj.weight": "ffn_up.weight",
        "mlp.down_proj.weight": "ffn_down.weight",
    }
    GGUF_PERMUTES_QK: ClassVar[bool] = False

    @classmethod
    def layer_shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        """One fused tensor for q, k and v; one for gate and up."""
        hidden, inner = config.hidden_size, config.intermediate_size
        q_rows, kv_rows = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        return {
            "input_layernorm.weight": (hidden,),
            "self_attn.qkv_proj.weight": (q_rows + 2 * kv_rows, hidden),
            "self_attn.o_proj.weight": (hidden, q_rows),
            "post_attention_layernorm.weight": (hidden,),
            "mlp.gate_up_proj.weight": (2 * inner, hidden),
            "mlp.down_proj.weight": (hidden, inner),
        }

    def project(self, layer: int, h: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q, k and v, cut out of the fused product."""
        c = self.config
        fused = self.linear(f"model.layers.{layer}.self_attn.qkv_proj", h)
        q_end = c.num_attention_heads * c.head_dim
        k_end = q_end + c.num_key_value_heads * c.head_dim
        return fused[:, :q_end], fused[:, q_end:k_end], fused[:, k_end:]

    def gate_and_up(self, layer: int, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gate is the first half of the fused product, up the second (transformers `Phi3MLP`)."""
        fused = self.linear(f"model.layers.{layer}.mlp.gate_up_proj", h)
        return fused[:, : self.config.intermediate_size], fused[:, self.config.intermediate_size :]
