"""Defects of weights, planted into the canonical tensors of a tiny model before any format writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]
Q0 = "model.layers.0.self_attn.q_proj.weight"
K0 = "model.layers.0.self_attn.k_proj.weight"
V0 = "model.layers.0.self_attn.v_proj.weight"
O1 = "model.layers.1.self_attn.o_proj.weight"
GATE1 = "model.layers.1.mlp.gate_proj.weight"
UP1 = "model.layers.1.mlp.up_proj.weight"
DOWN0 = "model.layers.0.mlp.down_proj.weight"
NORM1 = "model.layers.1.input_layernorm.weight"
FINAL = "model.norm.weight"
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Defect:
    """name, what it does to the weights in place, and what must be said of it."""

    name: str
    plant: Callable[[Weights], None]
    cause: str
    tensor: str
    where: dict[str, Any] = field(default_factory=dict)

    @property
    def fits_any_size(self) -> bool:
        """Whether it is planted without indices of the smallest model."""
        return not {"rows", "heads"} & set(self.where) and self.name != "heads reordered"

    def __str__(self) -> str:
        return self.name


def _all_zero(weights: Weights) -> None:
    weights[UP1] = np.zeros_like(weights[UP1])


def _rows_zero(weights: Weights) -> None:
    weights[UP1][8:40] = 0


def _head_zero(weights: Weights) -> None:
    weights[Q0][32:48] = 0


def _head_columns_zero(weights: Weights) -> None:
    weights[O1][:, 16:32] = 0


def _transposed(weights: Weights) -> None:
    weights[O1] = np.ascontiguousarray(weights[O1].T)


def _transposed_in_place(weights: Weights) -> None:
    weights[UP1] = np.ascontiguousarray(weights[UP1].T).reshape(weights[UP1].shape)


def interleaved(matrix: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's `permute` of convert_hf_to_gguf.py."""
    rows = matrix.shape[0]
    return matrix.reshape(heads, 2, rows // heads // 2, *matrix.shape[1:]).swapaxes(1, 2).reshape(matrix.shape)


def _interleaved(weights: Weights) -> None:
    for layer in (0, 1):
        for name, heads in (("q_proj", 4), ("k_proj", 2)):
            key = f"model.layers.{layer}.self_attn.{name}.weight"
            weights[key] = interleaved(weights[key], heads)


def _deinterleaved(weights: Weights) -> None:
    rows = weights[K0].shape[0]
    weights[K0] = weights[K0].reshape(2, rows // 4, 2, -1).swapaxes(1, 2).reshape(weights[K0].shape)


def _heads_reordered(weights: Weights) -> None:
    weights[Q0] = weights[Q0].reshape(4, 16, -1)[[0, 3, 2, 1]].reshape(weights[Q0].shape)


def _rows_permuted(weights: Weights) -> None:
    weights[GATE1] = weights[GATE1][np.random.default_rng(5).permutation(weights[GATE1].shape[0])]


def _columns_permuted(weights: Weights) -> None:
    weights[DOWN0] = np.ascontiguousarray(
        weights[DOWN0][:, np.random.default_rng(5).permutation(weights[DOWN0].shape[1])]
    )


def _two_rows_exchanged(weights: Weights) -> None:
    weights[UP1][[3, 70]] = weights[UP1][[70, 3]]


def _embedding_shifted(weights: Weights) -> None:
    weights[EMBEDDING] = np.roll(weights[EMBEDDING], 1, axis=0)


def _layers_exchanged(weights: Weights) -> None:
    for name in [name for name in weights if name.startswith("model.layers.0.")]:
        other = name.replace("layers.0.", "layers.1.")
        weights[name], weights[other] = weights[other], weights[name]


def _gate_and_up_exchanged(weights: Weights) -> None:
    for layer in (0, 1):
        gate, up = f"model.layers.{layer}.mlp.gate_proj.weight", f"model.layers.{layer}.mlp.up_proj.weight"
        weights[gate], weights[up] = weights[up], weights[gate]


def _value_of_another_layer(weights: Weights) -> None:
    weights[V0] = weights[V0.replace("layers.0", "layers.1")].copy()


def _key_is_value(weights: Weights) -> None:
    weights[K0], weights[V0] = weights[V0], weights[K0]


def _scaled(weights: Weights) -> None:
    weights[DOWN0] *= np.float32(2)


def _scaled_a_little(weights: Weights) -> None:
    weights[DOWN0] *= np.float32(1.1)


def _negated(weights: Weights) -> None:
    weights[O1] *= np.float32(-1)


def _head_scaled(weights: Weights) -> None:
    weights[Q0][16:32] *= np.float32(16**-0.5)


def _rows_scaled(weights: Weights) -> None:
    weights[GATE1] *= np.linspace(0.3, 3, weights[GATE1].shape[0], dtype=np.float32)[:, None]


def _norm_folded_in(weights: Weights) -> None:
    weights[UP1] *= weights["model.layers.1.post_attention_layernorm.weight"]


def _norm_off_by_one(weights: Weights) -> None:
    weights[NORM1] -= np.float32(1)


def _all_norms_off_by_one(weights: Weights) -> None:
    for name in weights:
        if name.endswith("norm.weight"):
            weights[name] = weights[name] + np.float32(1)


def _final_norm_scaled(weights: Weights) -> None:
    weights[FINAL] *= np.float32(0.5)


def _other_weights(weights: Weights) -> None:
    weights[GATE1] = (0.06 * np.random.default_rng(99).standard_normal(weights[GATE1].shape)).astype(np.float32)


DEFECTS = (
    Defect("zeroed", _all_zero, "weights.zeroed", UP1, {"layer": 1}),
    Defect("rows zeroed", _rows_zero, "weights.zeroed", UP1, {"rows": list(range(8, 40))}),
    Defect("head zeroed", _head_zero, "weights.zeroed", Q0, {"heads": [2]}),
    Defect("columns of a head zeroed", _head_columns_zero, "weights.zeroed", O1, {"heads": [1]}),
    Defect("transposed, square", _transposed, "weights.transposed", O1, {"order": "transposed"}),
    Defect("transposed under its shape", _transposed_in_place, "weights.transposed", UP1, {"order": "values"}),
    Defect("heads interleaved", _interleaved, "weights.permuted", Q0, {"order": "interleaved"}),
    Defect("heads taken apart", _deinterleaved, "weights.permuted", K0, {"order": "deinterleaved"}),
    Defect("heads reordered", _heads_reordered, "weights.permuted", Q0, {"order": "heads"}),
    Defect("rows permuted", _rows_permuted, "weights.permuted", GATE1, {"order": "rows", "along": "rows"}),
    Defect("columns permuted", _columns_permuted, "weights.permuted", DOWN0, {"order": "rows", "along": "columns"}),
    Defect("two rows exchanged", _two_rows_exchanged, "weights.permuted", UP1, {"rows": [3, 70]}),
    Defect("embedding shifted", _embedding_shifted, "weights.permuted", EMBEDDING, {"order": "shifted"}),
    Defect("layers exchanged", _layers_exchanged, "weights.swapped", "model.layers.0.input_layernorm.weight"),
    Defect("gate and up exchanged", _gate_and_up_exchanged, "weights.swapped", "model.layers.0.mlp.gate_proj.weight", {"other": "model.layers.0.mlp.up_proj.weight"}),
    Defect("v of another layer", _value_of_another_layer, "weights.swapped", V0, {"other": V0.replace("layers.0", "layers.1")}),
    Defect("k and v exchanged", _key_is_value, "weights.swapped", K0, {"other": V0}),
    Defect("scaled by 2", _scaled, "weights.scaled", DOWN0, {"factor": 2.0}),
    Defect("scaled by 1.1", _scaled_a_little, "weights.scaled", DOWN0),
    Defect("negated", _negated, "weights.scaled", O1, {"factor": -1.0}),
    Defect("head scaled", _head_scaled, "weights.scaled", Q0, {"factor": 0.25, "heads": [1]}),
    Defect("rows scaled", _rows_scaled, "weights.scaled", GATE1),
    Defect("norm folded in", _norm_folded_in, "weights.scaled", UP1),
    Defect("norm less one", _norm_off_by_one, "weights.offset", NORM1, {"offset": -1.0}),
    Defect("all norms plus one", _all_norms_off_by_one, "weights.offset", "model.layers.0.input_layernorm.weight", {"offset": 1.0}),
    Defect("final norm halved", _final_norm_scaled, "weights.scaled", FINAL, {"factor": 0.5}),
    Defect("other weights", _other_weights, "weights.unexplained", GATE1),
)  # fmt: skip
