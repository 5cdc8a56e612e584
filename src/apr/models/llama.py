"""Llama, and what has its shape: Mistral, SmolLM2, TinyLlama.

This is the forward pass to read: the others derive from it or are written out beside it. It is the only one: what
generates is what is traced, scored and served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np

from apr.kernels._set import KernelSet
from apr.models._config import ModelConfig
from apr.models._decoder import Batch, Tap, no_tap

MODEL_TYPES = ("llama", "mistral")
HF_ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM")
GGUF_ARCHITECTURES = ("llama",)


class Model:
    """A decoder of pre-normalised blocks: grouped-query attention with rotary positions, then SwiGLU.

    weights:  canonical name -> float32 array, or what the kernel set takes for one
    """

    # canonical name of a layer's tensor -> its GGUF name, without `model.layers.N.` and `blk.N.`
    LAYER_NAMES: ClassVar[dict[str, str]] = {
        "input_layernorm.weight": "attn_norm.weight",
        "self_attn.q_proj.weight": "attn_q.weight",
        "self_attn.k_proj.weight": "attn_k.weight",
        "self_attn.v_proj.weight": "attn_v.weight",
        "self_attn.o_proj.weight": "attn_output.weight",
        "post_attention_layernorm.weight": "ffn_norm.weight",
        "mlp.gate_proj.weight": "ffn_gate.weight",
        "mlp.up_proj.weight": "ffn_up.weight",
        "mlp.down_proj.weight": "ffn_down.weight",
        "self_attn.q_proj.bias": "attn_q.bias",
        "self_attn.k_proj.bias": "attn_k.bias",
        "self_attn.v_proj.bias": "attn_v.bias",
        "self_attn.o_proj.bias": "attn_output.bias",
    }
    # GGUF files of this architecture hold Q and K with each head's halves interleaved (llama.cpp's converter, `permute`)
    GGUF_PERMUTES_QK: ClassVar[bool] = True
    # what a safetensors file leaves out of its norm weights (Gemma stores w for a factor of 1 + w)
    HF_NORM_OFFSET: ClassVar[float] = 0.0

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray], ops: KernelSet) -> None:
        self.config = config
        self.weights = weights
        self.ops = ops
        self.embed_scale: float | None = None
        self.attention_scale = config.head_dim**-0.5

    @classmethod
    def layer_shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        """The tensors that every layer must have, by canonical name without `model.layers.N.`, with their shapes."""
        hidden, inner = config.hidden_size, config.intermediate_size
        q_rows, kv_rows = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (hidden,),
            "self_attn.q_proj.weight": (q_rows, hidden),
            "self_attn.k_proj.weight": (kv_rows, hidden),
            "self_attn.v_proj.weight": (kv_rows, hidden),
            "self_attn.o_proj.weight": (hidden, q_rows),
            "post_attention_layernorm.weight": (hidden,),
            "mlp.gate_proj.weight": (inner, hidden),
            "mlp.up_proj.weight": (inner, hidden),
            "mlp.down_proj.weight": (hidden, inner),
        }
        for name in cls.biased(config):
            shapes[f"self_attn.{name}.bias"] = shapes[f"self_attn.{name}.weight"][:1]
        return shapes

    @classmethod
    def biased(cls, config: ModelConfig) -> tuple[str, ...]:
        """The attention projections that add a bias."""
        return ("q_proj", "k_proj", "v_proj", "o_proj") if config.attention_bias else ()

    def forward(self, batch: Batch, *, tap: Tap = no_tap, rows: Literal["last", "all"] = "last") -> np.ndarray:
        """Logits after the new tokens of one or more sequences; their keys and values are left in the caches.

        tap:     called with every slot's name and value; what it returns is computed on
        rows:    "last": one row a sequence; "all": one row a token
        Returns  float32 [n_sequences or n_tokens, vocab_size]
        """
        x = self.ops.embedding(batch.token_ids, self.weights["model.embed_tokens.weight"])
        if self.embed_scale is not None:
            x = x * np.float32(self.embed_scale)
        x = tap("embed", x)
        for layer in range(self.config.num_hidden_layers):
            x = self.block(layer, x, batch, tap)
        if rows == "last":
            x = batch.last_rows(x)
        x = tap("final_norm", self.norm("model.norm.weight", x))
        logits = self.linear(self.head_name(), x)
        if (cap := self.config.final_logit_softcapping) is not None:
            logits = self.ops.softcap(logits, cap)
        return tap("logits", logits)

    def block(self, layer: int, x: np.ndarray, batch: Batch, tap: Tap) -> np.ndarray:
        """One layer: x, float32 [n_tokens, hidden_size], to the same shape."""
        name = f"layers.{layer}."
        h = tap(name + "attn_norm", self.norm(f"model.{name}input_layernorm.weight", x))
        h = self.attend(layer, h, batch, tap)
        x = tap(name + "attn_residual", x + h)
        h = tap(name + "ffn_norm", self.norm(f"model.{name}post_attention_layernorm.weight", x))
        h = self.feed_forward(layer, h, tap)
        return tap(name + "out", x + h)

    def attend(self, layer: int, h: np.ndarray, batch: Batch, tap: Tap) -> np.ndarray:
        """Attention of one layer over normalised input, float32 [n_tokens, hidden_size], to the same shape."""
        c, name = self.config, f"layers.{layer}."
        q, k, v = self.project(layer, h)
        q = tap(name + "q", q).reshape(-1, c.num_attention_heads, c.head_dim)
        k = tap(name + "k", k).reshape(-1, c.num_key_value_heads, c.head_dim)
        v = tap(name + "v", v).reshape(-1, c.num_key_value_heads, c.head_dim)
        q, k = self.norm_heads(layer, q, k, tap)
        table = batch.rope_table(self.rope_base(layer))
        q, k = tap(name + "q_rope", self.ops.rope(q, table)), tap(name + "k_rope", self.ops.rope(k, table))
        context = batch.attention(
            layer, q, k, v, scale=self.attention_scale, window=c.window(layer), softcap=c.attn_logit_softcapping
        )
        return tap(name + "attn_out", self.linear(f"model.{name}self_attn.o_proj", tap(name + "attn", context)))

    def project(self, layer: int, h: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q, k and v with their biases: float32 [n_tokens, heads * head_dim] each."""
        module = f"model.layers.{layer}.self_attn."
        return self.linear(module + "q_proj", h), self.linear(module + "k_proj", h), self.linear(module + "v_proj", h)

    def norm_heads(self, layer: int, q: np.ndarray, k: np.ndarray, tap: Tap) -> tuple[np.ndarray, np.ndarray]:
        """What an architecture does to each head of q and k before the rotation: here nothing."""
        del layer, tap
        return q, k

    def feed_forward(self, layer: int, h: np.ndarray, tap: Tap) -> np.ndarray:
        """The gated feed-forward of one layer, float32 [n_tokens, hidden_size], to the same shape."""
        name = f"layers.{layer}."
        gate, up = self.gate_and_up(layer, h)
        gate, up = tap(name + "ffn_gate", gate), tap(name + "ffn_up", up)
        act = tap(name + "ffn_act", self.activation(gate))
        product = tap(name + "ffn_swiglu", act * up)
        return tap(name + "ffn_down", self.linear(f"model.{name}mlp.down_proj", product))

    def gate_and_up(self, layer: int, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both inner projections, float32 [n_tokens, intermediate_size] each."""
        module = f"model.layers.{layer}.mlp."
        return self.linear(module + "gate_proj", h), self.linear(module + "up_proj", h)

    @property
    def activation(self) -> Callable[[np.ndarray], np.ndarray]:
        """The gate's function, by the config's name for it."""
        return self.ops.gelu_tanh if self.config.hidden_act == "gelu_pytorch_tanh" else self.ops.silu

    def linear(self, module: str, x: np.ndarray) -> np.ndarray:
        """x times the weight of a canonical module, plus its bias if it has one."""
        return self.ops.linear(x, self.weights[module + ".weight"], self.weights.get(module + ".bias"))

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        """RMSNorm with the weight called `name`."""
        return self.ops.rmsnorm(x, self.weights[name], eps=self.config.rms_norm_eps)

    def head_name(self) -> str:
        """The module that gives logits: the output head, or the embedding that it is tied to."""
        return "model.embed_tokens" if self.config.tie_word_embeddings else "lm_head"

    def rope_base(self, layer: int) -> float | None:
        """A layer's own rotary base, unscaled; None where it is the config's."""
        del layer
        return None
