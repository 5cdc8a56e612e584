"""A GGUF file opened for surgery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mutants._gguf import BOOL, STRING, GgufParts, Tensor
from mutants._patient import Patient

_GGUF_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GGUF_GEMMA = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_GGUF_GLOBAL = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_GGUF_KEYS = {
    "rope_theta": ("rope.freq_base",),
    "rms_norm_eps": ("attention.layer_norm_rms_epsilon",),
    "num_attention_heads": ("attention.head_count",),
    "num_key_value_heads": ("attention.head_count_kv",),
    "head_dim": ("attention.key_length", "attention.value_length"),
    "max_position_embeddings": ("context_length",),
    "sliding_window": ("attention.sliding_window",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "intermediate_size": ("feed_forward_length",),
    "hidden_size": ("embedding_length",),
    "num_hidden_layers": ("block_count",),
    "rope_local_base_freq": ("rope.freq_base_swa",),
    "rope_scaling.factor": ("rope.scaling.factor",),
    "rope_scaling": (
        *("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length"),
        *("rope.scaling.attn_factor", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"),
    ),
    "partial_rotary_factor": ("rope.dimension_count",),
}


class GgufPatient(Patient):
    """A GGUF file."""

    def __init__(self, path: Path) -> None:
        self.parts = GgufParts(path)
        self.arch = self.parts.get("general.architecture")

    def stored(self, name: str) -> str:
        """The file's name of a canonical tensor."""
        module, _, kind = name.rpartition(".")
        if module in _GGUF_GLOBAL:
            return f"{_GGUF_GLOBAL[module]}.{kind}"
        if not module.startswith("model.layers."):
            return name
        layer, _, rest = module.removeprefix("model.layers.").partition(".")
        names = _GGUF_LAYER | (_GGUF_GEMMA if self.arch.startswith("gemma") else {})
        return f"blk.{layer}.{names[rest]}.{kind}"

    def names(self) -> list[str]:
        names = _GGUF_LAYER | (_GGUF_GEMMA if self.arch.startswith("gemma") else {})
        fused = "blk.0.attn_qkv.weight" in self.parts.tensors
        back = {v: k for k, v in names.items() if ("qkv" in k or "gate_up" in k) == fused or v not in ("ffn_up",)}
        found = []
        for stored in self.parts.tensors:
            module, _, kind = stored.rpartition(".")
            if not module.startswith("blk."):
                found += [f"{hf}.{kind}" for hf, gguf in _GGUF_GLOBAL.items() if gguf == module]
                continue
            layer, _, rest = module.removeprefix("blk.").partition(".")
            found.append(f"model.layers.{layer}.{back[rest]}.{kind}")
        return found

    def array(self, name: str) -> np.ndarray:
        import gguf

        part = self.part(name)
        kind = gguf.GGMLQuantizationType(part.kind)
        rows = part.data.reshape(*part.shape[:-1], -1)
        values: np.ndarray = gguf.quants.dequantize(rows, kind).astype(np.float32).reshape(part.shape)
        return values

    def put(self, name: str, values: np.ndarray) -> None:
        import gguf

        stored = self.stored(name)
        kind = self.parts.tensors[stored].kind if stored in self.parts.tensors else 0
        data = gguf.quants.quantize(np.ascontiguousarray(values, dtype=np.float32), gguf.GGMLQuantizationType(kind))
        self.parts.tensors[stored] = Tensor(kind, values.shape, data.reshape(-1).view(np.uint8))

    def part(self, name: str) -> Tensor:
        return self.parts.tensors[self.stored(name)]

    def remove(self, name: str) -> None:
        del self.parts.tensors[self.stored(name)]

    def setting(self, key: str) -> Any:
        keys = [f"{self.arch}.{k}" for k in _GGUF_KEYS[key]]
        return next((self.parts.get(k) for k in keys if k in self.parts.keys), None)

    def set(self, key: str, value: Any) -> None:
        for short in _GGUF_KEYS[key]:
            name = f"{self.arch}.{short}"
            kind = None if name in self.parts.keys else (6 if isinstance(value, float) else 4)
            self.parts.set(name, value, kind=kind)

    def drop(self, key: str) -> None:
        found = [self.parts.keys.pop(f"{self.arch}.{short}", None) for short in _GGUF_KEYS[key]]
        assert any(found), f"the file does not say {key}"

    def tokens(self) -> list[str]:
        found: list[str] = self.parts.get("tokenizer.ggml.tokens")
        return found

    def set_tokens(self, tokens: Sequence[str]) -> None:
        """Replace the whole vocabulary."""
        self.parts.set("tokenizer.ggml.tokens", tokens)

    def swap_tokens(self, first: int, second: int) -> None:
        tokens = self.tokens()
        tokens[first], tokens[second] = tokens[second], tokens[first]
        self.set_tokens(tokens)

    def merges(self) -> list[str]:
        found: list[str] = self.parts.get("tokenizer.ggml.merges")
        return found

    def set_merges(self, merges: Sequence[str]) -> None:
        self.parts.set("tokenizer.ggml.merges", merges)

    def make_normal(self, token_id: int) -> None:
        types = self.parts.get("tokenizer.ggml.token_type")
        assert types[token_id] != 1
        types[token_id] = 1
        self.parts.set("tokenizer.ggml.token_type", types)

    def set_add_bos(self, wanted: bool) -> None:
        self.parts.set("tokenizer.ggml.add_bos_token", wanted, kind=BOOL)

    def set_id(self, role: str, token_id: int) -> None:
        name = {"pad": "padding"}.get(role, role)
        self.parts.set(f"tokenizer.ggml.{name}_token_id", token_id, kind=4)

    def set_stop_list(self, token_ids: Sequence[int]) -> None:
        for name in ("eot", "eom"):
            self.parts.keys.pop(f"tokenizer.ggml.{name}_token_id", None)
        for name, token_id in zip(("eot", "eom"), token_ids, strict=False):
            self.parts.set(f"tokenizer.ggml.{name}_token_id", token_id, kind=4)

    def template(self) -> str | None:
        return self.parts.get("tokenizer.chat_template") if "tokenizer.chat_template" in self.parts.keys else None

    def set_template(self, text: str | None) -> None:
        self.parts.keys.pop("tokenizer.chat_template", None)
        if text is not None:
            self.parts.set("tokenizer.chat_template", text, kind=STRING)

    def save(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return self.parts.write(folder / "model.gguf")
