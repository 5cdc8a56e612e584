"""Qwen2 and Qwen2.5: Llama with a bias on the q, k and v projections."""

from __future__ import annotations

from typing import ClassVar

from apr.models._config import ModelConfig
from apr.models.llama import Model as Llama

MODEL_TYPES = ("qwen2",)
HF_ARCHITECTURES = ("Qwen2ForCausalLM",)
GGUF_ARCHITECTURES = ("qwen2",)


class Model(Llama):
    """Llama with q, k and v biases; GGUF files keep its heads as they are."""

    GGUF_PERMUTES_QK: ClassVar[bool] = False

    @classmethod
    def biased(cls, config: ModelConfig) -> tuple[str, ...]:
        """q, k and v, always."""
        return ("q_proj", "k_proj", "v_proj")
