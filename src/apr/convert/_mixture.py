"""Which encoding each tensor of a quantised file gets: llama.cpp's mixtures, by the names that tensors have in GGUF.

A mixture has a base type; what a model's quality hangs on (the head, values, the way down of the feed-forward, in the
first and last eighth of the layers above all) gets more bits. A row that is no multiple of a type's block falls back to a type with
blocks of 32, and then to F16. Source: llama.cpp, src/llama-quant.cpp (llama_tensor_get_type_impl, tensor_type_fallback,
tensor_allows_quantization) and llama.h (enum llama_ftype), October 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apr.kernels import quants


@dataclass(frozen=True, slots=True)
class Mixture:
    """A way to quantise a whole model.

    name:       as it is asked for: q4_k_m
    base:       the codec of most matrices
    file_type:  GGUF's `general.file_type`
    """

    name: str
    base: str
    file_type: int


MIXTURES = {
    name: Mixture(name, base, number)
    for name, base, number in (
        ("q8_0", "q8_0", 7), ("q6_k", "q6_k", 18), ("q5_k_m", "q5_k", 17), ("q5_k_s", "q5_k", 16), ("q5_1", "q5_1", 9),
        ("q5_0", "q5_0", 8), ("q4_k_m", "q4_k", 15), ("q4_k_s", "q4_k", 14), ("q4_1", "q4_1", 3), ("q4_0", "q4_0", 2),
        ("q3_k_l", "q3_k", 13), ("q3_k_m", "q3_k", 12), ("q3_k_s", "q3_k", 11), ("q2_k", "q2_k", 10), ("q2_k_s", "q2_k", 21),
        ("bf16", "bf16", 32), ("f16", "f16", 1), ("f32", "f32", 0),
    )
}  # fmt: skip
_FALLBACKS = {"q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}
_LAST = "f16"
_BLOCK = re.compile(r"blk\.(\d+)\.")
_HEAD = "output.weight"
# small, and read as they are by every engine
_KEPT = re.compile(
    r"_norm\.weight$|ffn_gate_inp\.weight$|ffn_gate_tid2eid\.weight$|altup|laurel|per_layer_model_proj|^position_embd\.weight$"
    r"|^token_types\.weight$|ssm_conv1d|shortconv\.conv\.weight$|indexer\.[qk]_proj\.weight$|attn_rel_b\.weight$"
    r"|time_mix_(first|w[0-2]|v[0-2]|a[0-2]|g[12]|decay_w[12]|lerp_fused)\.weight$"
)
_FEW_HEADS = 4  # query heads to a key-value head from which on the values are small beside the rest
_70B_LAYERS = 80  # llama.cpp takes a Llama or Qwen of as many layers for a 70B


@dataclass(frozen=True, slots=True)
class Shape:
    """What a mixture must know of a model.

    layers:          of it
    gqa:             query heads to a key-value head
    experts:         of a feed-forward; 0 where it has none
    has_importance:  whether an importance matrix is used
    """

    layers: int
    gqa: int
    experts: int = 0
    has_importance: bool = False


def is_quantised(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor of this GGUF name is quantised at all: matrices that are weights, but norms, routers and position tables."""
    return len(shape) > 1 and name.endswith("weight") and not _KEPT.search(name)


def codecs(mixture: Mixture, tensors: Mapping[str, Sequence[int]], model: Shape) -> dict[str, str]:
    """The codec of every tensor that is quantised, by GGUF name.

    tensors:  shapes by GGUF name, the last axis the one that is coded
    """
    is_tied = _HEAD not in tensors
    layers = _positions(tensors)
    chosen = {}
    for name, shape in tensors.items():
        if is_quantised(name, shape):
            codec = mixture.base
            if quants.codec(codec).block_size > 1:
                codec = _fitting(_wanted(mixture, name, shape, model, is_tied=is_tied, layers=layers), shape)
            chosen[name] = codec
    return chosen


def _positions(tensors: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, int]]:
    """Of every value matrix, which it is, in the order of layers, and how many there are."""
    names = sorted((name for name in tensors if _role(name) == "attn_v"), key=_layer)
    return {name: (i, len(names)) for i, name in enumerate(names)}


def _wanted(
    mixture: Mixture,
    name: str,
    shape: Sequence[int],
    model: Shape,
    *,
    is_tied: bool,
    layers: Mapping[str, tuple[int, int]],
) -> str:
    """The codec that the mixture gives a tensor, whether or not its rows fit."""
    role = _role(name)
    if role == "output" or (is_tied and role == "token_embd"):
        if not _fits(mixture.base, shape):
            return "q8_0"
        return mixture.base if mixture.base == "q8_0" else "q6_k"
    if role == "attn_v":
        return _of_values(mixture, *layers[name], model)
    if role == "attn_k" and model.experts == 8:
        return "q8_0"
    if role == "ffn_down":
        return _of_the_way_down(mixture, _layer(name), model)
    if role == "attn_output":
        return _of_attention_output(mixture, model)
    return mixture.base


def _of_values(mixture: Mixture, i: int, n: int, model: Shape) -> str:
    codec = mixture.base
    match mixture.name:
        case "q2_k":
            codec = "q4_k" if model.gqa >= _FEW_HEADS else "q3_k"
        case "q2_k_s" if model.gqa >= _FEW_HEADS:
            codec = "q4_k"
        case "q3_k_m":
            codec = "q5_k" if i < 2 else "q4_k"
        case "q3_k_l":
            codec = "q5_k"
        case "q4_k_m" | "q5_k_m" if _gets_more(i, n):
            codec = "q6_k"
        case "q4_k_s" if i < 4:
            codec = "q5_k"
    if model.layers == _70B_LAYERS and codec in ("q3_k", "q4_k"):
        codec = "q5_k"
    return "q8_0" if model.experts == 8 else codec


def _of_the_way_down(mixture: Mixture, i: int, model: Shape) -> str:
    n = model.layers
    match mixture.name:
        case "q2_k":
            return "q3_k"
        case "q2_k_s" if i < n // 8:
            return "q4_k"
        case "q3_k_m":
            return "q5_k" if i < n // 16 else "q4_k"
        case "q3_k_l":
            return "q5_k"
        case "q4_k_m" | "q5_k_m" if _gets_more(i, n):
            return "q6_k"
        case "q4_k_s" if i < n // 8:
            return "q5_k"
        case "q4_0" | "q5_0" if model.has_importance and i < n // 8:
            return {"q4_0": "q4_1", "q5_0": "q5_1"}[mixture.name]
    return mixture.base


def _of_attention_output(mixture: Mixture, model: Shape) -> str:
    if model.experts == 8:
        return "q5_k" if mixture.name in ("q2_k", "q3_k_s", "q3_k_m", "q4_k_s", "q4_k_m") else mixture.base
    return {"q2_k": "q3_k", "q3_k_m": "q4_k", "q3_k_l": "q5_k"}.get(mixture.name, mixture.base)


def _gets_more(i: int, n: int) -> bool:
    """The first and last eighth of the layers, and every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _fitting(codec: str, shape: Sequence[int]) -> str:
    """The codec, or the one that it falls back to where the rows are no whole blocks."""
    for one in (codec, _FALLBACKS.get(codec, _LAST)):
        if _fits(one, shape):
            return one
    return _LAST


def _fits(codec: str, shape: Sequence[int]) -> bool:
    return shape[-1] % quants.codec(codec).block_size == 0


def _role(name: str) -> str:
    """What a tensor does: the name behind its layer, fused projections counted as values."""
    stem = _BLOCK.sub("", name).removesuffix(".weight")
    return "attn_v" if stem in ("attn_qkv", "attn_kv_b") else stem.removesuffix("_exps")


def _layer(name: str) -> int:
    found = _BLOCK.match(name)
    return int(found[1]) if found is not None else 0
