"""Defects of the tensors: transposed, permuted, swapped, scaled, shifted, zeroed, missing, or something else altogether.

Those of the real models, where every matrix is quantised, are in `plant_quantization.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mutants._patient import Patient
from mutants._patient_gguf import GgufPatient
from mutants.mutant import Edit, Mutant, planted, surgery

_L0, _L1 = "model.layers.0.", "model.layers.1."
_Q, _K, _V, _O = (f"self_attn.{m}_proj.weight" for m in "qkvo")
_GATE, _UP, _DOWN = (f"mlp.{m}_proj.weight" for m in ("gate", "up", "down"))
_EMBED, _HEAD, _NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
_ROW_SWAP = "two rows exchanged are a permutation of rows, and a swap"
_HALVES = "the halves of a fused tensor exchanged are a permutation of its rows, and a swap of what is fused"


def mutants() -> list[Mutant]:
    """Those of the twins."""
    return [
        *_transposed(),
        *_permuted(),
        *_swapped(),
        *_scaled(),
        *_offset(),
        *_zeroed(),
        *_nonfinite(),
        *_census(),
        *_tied(),
        *_unexplained(),
    ]


def _transposed() -> list[Mutant]:
    return [
        *_one("weights.transposed", "llama/gguf qwen2/safetensors qwen3/apr gemma3_text/gguf", _L1 + _O, lambda w: w.T, "weights.transposed"),
        *_one("weights.transposed_q", "qwen2/gguf llama/safetensors mistral/apr", _L0 + _Q, lambda w: w.T, "weights.transposed"),
        *_one("weights.read_transposed", "llama/gguf qwen2/safetensors", _L1 + _DOWN, lambda w: w.T.reshape(w.shape), "weights.transposed"),
        *_one("weights.head_read_transposed", "qwen3/gguf llama/apr", _HEAD, lambda w: w.T.reshape(w.shape), "weights.transposed"),
        *_one("weights.shape_transposed", "llama/safetensors qwen2/gguf", _L0 + _UP, lambda w: w.T, "weights.transposed"),
    ]  # fmt: skip


def _permuted() -> list[Mutant]:
    return [
        *planted("weights.qk_permuted_again", "llama/gguf mistral/gguf", surgery(_permute_heads(1)), "weights.permuted", links="weights"),
        *planted("weights.qk_not_permuted", "llama/gguf", surgery(_permute_heads(-1)), "weights.permuted", links="weights"),
        *planted("weights.qk_permuted_needlessly", "qwen2/gguf llama/safetensors llama/apr qwen3/safetensors", surgery(_permute_heads(1)), "weights.permuted", links="weights"),
        *planted("weights.k_permuted_in_one_layer", "qwen2/safetensors llama/apr", surgery(_permute_heads(1, layers=(1,), modules=("k_proj",))), "weights.permuted", where={"tensor": _L1 + _K}, links="weights"),
        *_one("weights.rows_permuted", "llama/gguf qwen2/apr qwen3/safetensors", _L1 + _UP, lambda w: w[_order(len(w))], "weights.permuted"),
        *_one("weights.columns_permuted", "llama/gguf mistral/safetensors", _L0 + _DOWN, lambda w: w[:, _order(w.shape[1])], "weights.permuted"),
        *_one("weights.rows_reversed", "gemma3_text/gguf", _L1 + _V, lambda w: w[::-1], "weights.permuted"),
        *_one("weights.heads_exchanged", "llama/safetensors qwen2/gguf", _L1 + _Q, _exchange_heads, "weights.permuted"),
        *_one("weights.embedding_rows_exchanged", "llama/gguf qwen2-tied/safetensors gemma3_text/apr", _EMBED, _exchange_rows(70, 90), "weights.permuted weights.swapped", reason=_ROW_SWAP),
        *_one("weights.embedding_shifted", "qwen2/gguf", _EMBED, lambda w: np.roll(w, 1, axis=0), "weights.permuted"),
        *_one("weights.gate_up_halves_exchanged", "phi3/gguf phi3/safetensors", _L1 + "mlp.gate_up_proj.weight", lambda w: np.roll(w, len(w) // 2, axis=0), "weights.permuted weights.swapped", reason=_HALVES),
        *_one("weights.qkv_order_changed", "phi3/gguf", _L0 + "self_attn.qkv_proj.weight", lambda w: np.roll(w, 32, axis=0), "weights.permuted weights.swapped", reason=_HALVES),
    ]  # fmt: skip


def _swapped() -> list[Mutant]:
    both = frozenset({_L0 + _GATE, _L0 + _UP})
    every = frozenset(f"model.layers.{i}.mlp.{m}_proj.weight" for i in range(3) for m in ("gate", "up"))
    copied = "a tensor written twice stands in the place of the one that is lost"
    return [
        *planted("weights.gate_and_up_swapped", "llama/gguf qwen2/safetensors gemma3_text/apr", surgery(_swap((_L0 + _GATE, _L0 + _UP))), "weights.swapped", where={"tensor": both}, links="weights"),
        *planted("weights.gate_and_up_swapped_everywhere", "qwen3/gguf mistral/safetensors", surgery(_swap(*((f"model.layers.{i}.{_GATE}", f"model.layers.{i}.{_UP}") for i in range(3)))), "weights.swapped", where={"tensor": every}, links="weights"),
        *planted("weights.k_and_v_swapped", "qwen2/gguf qwen3/apr", surgery(_swap((_L1 + _K, _L1 + _V))), "weights.swapped", where={"tensor": frozenset({_L1 + _K, _L1 + _V})}, links="weights"),
        *planted("weights.q_swapped_with_next_layer", "qwen2/safetensors llama/apr", surgery(_swap((_L0 + _Q, _L1 + _Q))), "weights.swapped", where={"tensor": frozenset({_L0 + _Q, _L1 + _Q})}, links="weights"),
        *planted("weights.layers_swapped", "llama/gguf qwen2/safetensors qwen3/apr gemma3_text/gguf phi3/gguf", surgery(_swap_layers), "weights.swapped", where={"layer": frozenset({0, 1})}, links="weights"),
        *planted("weights.norms_swapped", "llama/safetensors qwen2/gguf", surgery(_swap((_L1 + "input_layernorm.weight", _L1 + "post_attention_layernorm.weight"))), "weights.swapped",
                 where={"tensor": frozenset({_L1 + "input_layernorm.weight", _L1 + "post_attention_layernorm.weight"})}, links="weights"),
        *planted("weights.biases_swapped", "qwen2/gguf", surgery(_swap((_L1 + "self_attn.k_proj.bias", _L1 + "self_attn.v_proj.bias"))), "weights.swapped",
                 where={"tensor": frozenset({_L1 + "self_attn.k_proj.bias", _L1 + "self_attn.v_proj.bias"})}, links="weights"),
        *planted("weights.head_norms_swapped", "qwen3/gguf gemma3_text/safetensors", surgery(_swap((_L0 + "self_attn.q_norm.weight", _L0 + "self_attn.k_norm.weight"))), "weights.swapped",
                 where={"tensor": frozenset({_L0 + "self_attn.q_norm.weight", _L0 + "self_attn.k_norm.weight"})}, links="weights"),
        *planted("weights.layer_written_twice", "llama/gguf mistral/safetensors", surgery(_copy(_L0 + _DOWN, _L1 + _DOWN)), "weights.swapped weights.unexplained", where={"tensor": _L1 + _DOWN}, links="weights", reason=copied),
    ]  # fmt: skip


def _scaled() -> list[Mutant]:
    part = "a part that is scaled is no scale of the whole: either word describes it"
    return [
        *_one("weights.doubled", "llama/gguf qwen2/safetensors qwen3/apr", _L1 + _V, lambda w: 2.0 * w, "weights.scaled"),
        *_one("weights.halved", "mistral/gguf phi3/safetensors", _L0 + _O, lambda w: 0.5 * w, "weights.scaled"),
        *_one("weights.scaled_slightly", "llama/safetensors gemma3_text/gguf", _L1 + _UP, lambda w: 1.03 * w, "weights.scaled"),
        *_one("weights.negated", "qwen2/gguf", _L1 + _O, lambda w: -w, "weights.scaled"),
        *_one("weights.embedding_scaled", "gemma3_text/gguf gemma3_text/safetensors", _EMBED, lambda w: w * np.float32(8.0), "weights.scaled"),
        *_one("weights.q_scaled_by_head_size", "llama/apr qwen2/safetensors", _L0 + _Q, lambda w: w * np.float32(0.25), "weights.scaled"),
        *_one("weights.row_scaled", "llama/gguf qwen3/safetensors", _L1 + _DOWN, _scale_rows(slice(7, 8), 3.0), "weights.scaled weights.unexplained", reason=part),
        *_one("weights.head_scaled", "qwen2/gguf llama/safetensors", _L1 + _Q, _scale_rows(slice(16, 32), 0.5), "weights.scaled weights.unexplained", reason=part),
        *_one("weights.column_scaled", "mistral/apr", _L0 + _O, lambda w: w * np.where(np.arange(w.shape[1]) == 5, 4.0, 1.0), "weights.scaled weights.unexplained", reason=part),
        *_one("weights.norm_scaled", "llama/gguf", _NORM, lambda w: 2.0 * w, "weights.scaled"),
        *_one("weights.bias_scaled", "qwen2/safetensors", _L1 + "self_attn.q_proj.bias", lambda w: 2.0 * w, "weights.scaled"),
    ]  # fmt: skip


def _offset() -> list[Mutant]:
    return [
        *_one("weights.norm_plus_one", "llama/gguf gemma3_text/gguf qwen3/safetensors", _L1 + "input_layernorm.weight", lambda w: w + 1.0, "weights.offset"),
        *_one("weights.norm_minus_one", "gemma3_text/gguf", _L0 + "post_feedforward_layernorm.weight", lambda w: w - 1.0, "weights.offset"),
        *_one("weights.final_norm_plus_one", "qwen2/gguf gemma3_text/safetensors gemma3_text/apr", _NORM, lambda w: w + 1.0, "weights.offset"),
        *planted("weights.every_norm_minus_one", "gemma3_text/gguf", surgery(_every_norm(-1.0)), "weights.offset", links="weights"),
        *planted("weights.every_norm_plus_one", "gemma3_text/safetensors llama/apr", surgery(_every_norm(1.0)), "weights.offset", links="weights"),
        *_one("weights.bias_shifted", "qwen2/apr", _L0 + "self_attn.v_proj.bias", lambda w: w + 0.25, "weights.offset"),
    ]  # fmt: skip


def _zeroed() -> list[Mutant]:
    return [
        *_one("weights.zeroed", "llama/gguf qwen2/safetensors qwen3/apr phi3/gguf", _L1 + _O, np.zeros_like, "weights.zeroed"),
        *_one("weights.head_zeroed", "llama/gguf qwen2/safetensors", _L1 + _Q, _scale_rows(slice(16, 32), 0.0), "weights.zeroed"),
        *_one("weights.kv_head_zeroed", "mistral/gguf", _L0 + _V, _scale_rows(slice(16, 32), 0.0), "weights.zeroed"),
        *_one("weights.row_zeroed", "qwen2/apr gemma3_text/gguf", _L1 + _DOWN, _scale_rows(slice(9, 10), 0.0), "weights.zeroed"),
        *_one("weights.embedding_row_zeroed", "llama/safetensors", _EMBED, _scale_rows(slice(70, 71), 0.0), "weights.zeroed"),
        *_one("weights.second_half_zeroed", "qwen3/gguf", _L0 + _UP, _scale_rows(slice(48, 96), 0.0), "weights.zeroed"),
        *_one("weights.norm_zeroed", "llama/apr", _L1 + "post_attention_layernorm.weight", np.zeros_like, "weights.zeroed"),
    ]  # fmt: skip


def _nonfinite() -> list[Mutant]:
    return [
        *_one("weights.one_nan", "llama/gguf qwen2/safetensors qwen3/apr", _L1 + _DOWN, _one_value(np.nan), "weights.nonfinite"),
        *_one("weights.one_inf", "qwen2/gguf gemma3_text/safetensors", _L0 + _UP, _one_value(np.inf), "weights.nonfinite"),
        *_one("weights.all_nan", "phi3/gguf", _L1 + _O, lambda w: np.full_like(w, np.nan), "weights.nonfinite"),
        *_one("weights.norm_nan", "llama/safetensors", _NORM, _one_value(np.nan), "weights.nonfinite"),
    ]  # fmt: skip


def _census() -> list[Mutant]:
    no_bias = "a bias of zeros is a tensor of zeros, and no bias"
    extra_bias = (
        "a bias that the model should not have is an extra tensor; some containers say by it that there are biases"
    )
    return [
        *planted("weights.bias_missing", "qwen2/gguf qwen2/safetensors qwen2/apr", surgery(_remove(_L1 + "self_attn.k_proj.bias")), "weights.bias_missing", where={"tensor": _L1 + "self_attn.k_proj.bias"}, links="weights"),
        *planted("weights.every_bias_missing", "qwen2/gguf qwen2/safetensors", surgery(_remove_biases), "weights.bias_missing", links="weights"),
        *_one("weights.bias_zeroed", "qwen2/gguf", _L1 + "self_attn.q_proj.bias", np.zeros_like, "weights.zeroed weights.bias_missing", reason=no_bias),
        *planted("weights.missing", "llama/gguf qwen2/safetensors qwen3/apr", surgery(_remove(_L1 + _UP)), "weights.missing", where={"tensor": _L1 + _UP}, links="weights"),
        *planted("weights.norm_missing", "llama/safetensors gemma3_text/gguf", surgery(_remove(_L0 + "input_layernorm.weight")), "weights.missing", where={"tensor": _L0 + "input_layernorm.weight"}, links="weights"),
        *planted("weights.head_norm_missing", "qwen3/gguf", surgery(_remove(_L1 + "self_attn.k_norm.weight")), "weights.missing", where={"tensor": _L1 + "self_attn.k_norm.weight"}, links="weights"),
        *planted("weights.embedding_missing", "mistral/safetensors", surgery(_remove(_EMBED)), "weights.missing", where={"tensor": _EMBED}, links="weights"),
        *planted("weights.extra_layer", "llama/gguf qwen2/safetensors qwen3/apr", surgery(_extra_layer), "weights.extra", links="weights"),
        *planted("weights.extra_tensor", "llama/gguf qwen2/safetensors", surgery(_extra_tensor), "weights.extra", links="weights"),
        *planted("weights.extra_bias", "llama/gguf llama/safetensors", surgery(_extra_bias), "weights.extra metadata.value", links="weights metadata", reason=extra_bias),
    ]  # fmt: skip


def _tied() -> list[Mutant]:
    flag = "the flag says that the head is tied, and the head is there: metadata against weights"
    lost = "an untied head that is gone is tied to the embedding by every reader; the tensor is missing"
    return [
        *planted("weights.head_lost", "llama/gguf qwen2/gguf", surgery(_remove(_HEAD)), "weights.tied weights.missing metadata.value", links="weights metadata", reason=lost),
        *planted("weights.head_lost_by_flag", "llama/safetensors qwen2/apr", surgery(_tie), "weights.tied metadata.value", links="weights metadata", reason=flag),
        *planted("weights.flag_ties_head", "qwen3/safetensors", surgery(_flag), "weights.tied metadata.value", links="weights metadata", reason=flag),
        *_one("weights.head_is_embedding", "llama/gguf qwen2/safetensors", _HEAD, None, "weights.tied weights.swapped", reason="the embedding stands where the head was", edit=_head_is_embedding),
        *planted("weights.tied_head_is_wrong", "llama-tied/gguf qwen2-tied/safetensors", surgery(_wrong_head), "weights.tied weights.extra metadata.value", links="weights metadata",
                 reason="a head of its own in a tied model is one tensor too many, and unties it"),
    ]  # fmt: skip


def _unexplained() -> list[Mutant]:
    return [
        *_one("weights.noise", "llama/gguf qwen2/safetensors qwen3/apr", _L1 + _DOWN, _noise(0.1), "weights.unexplained"),
        *_one("weights.faint_noise", "mistral/gguf gemma3_text/safetensors", _L0 + _V, _noise(0.003), "weights.unexplained"),
        *_one("weights.reinitialised", "llama/safetensors phi3/gguf", _L1 + _O, _reinitialised, "weights.unexplained"),
        *_one("weights.low_rank_change", "qwen2/gguf", _L0 + _Q, _low_rank, "weights.unexplained"),
        *_one("weights.one_value", "llama/apr", _L1 + _UP, _one_value(1.5), "weights.unexplained"),
        *_one("weights.norm_drawn_anew", "qwen2/apr", _NORM, _reinitialised, "weights.unexplained"),
    ]  # fmt: skip


def _one(
    name: str,
    sites: str,
    tensor: str,
    how: Callable[[np.ndarray], np.ndarray] | None,
    causes: str,
    *,
    reason: str = "",
    edit: Edit | None = None,
) -> list[Mutant]:
    """One tensor replaced by a function of itself. In phi3 the attention's inputs and the feed-forward's are fused."""

    def change(patient: Patient) -> None:
        assert how is not None
        patient.change(tensor, how)

    return planted(
        name, sites, surgery(edit or change), causes, where={"tensor": tensor}, links="weights", reason=reason
    )


def _order(n: int) -> np.ndarray:
    return np.random.default_rng(3).permutation(n)


def _exchange_rows(first: int, second: int) -> Callable[[np.ndarray], np.ndarray]:
    def how(w: np.ndarray) -> np.ndarray:
        w[[first, second]] = w[[second, first]]
        return w

    return how


def _exchange_heads(w: np.ndarray) -> np.ndarray:
    heads = w.reshape(4, -1, w.shape[1])
    return heads[[0, 2, 1, 3]].reshape(w.shape)


def _scale_rows(rows: slice, factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def how(w: np.ndarray) -> np.ndarray:
        w[rows] *= np.float32(factor)
        return w

    return how


def _one_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def how(w: np.ndarray) -> np.ndarray:
        w.reshape(-1)[w.size // 3] = value
        return w

    return how


def _noise(share: float) -> Callable[[np.ndarray], np.ndarray]:
    def how(w: np.ndarray) -> np.ndarray:
        changed: np.ndarray = w + share * w.std() * np.random.default_rng(5).standard_normal(w.shape)
        return changed

    return how


def _reinitialised(w: np.ndarray) -> np.ndarray:
    drawn: np.ndarray = w.mean() + w.std() * np.random.default_rng(6).standard_normal(w.shape)
    return drawn


def _low_rank(w: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(7)
    a, b = random.standard_normal((w.shape[0], 2)), random.standard_normal((2, w.shape[1]))
    changed: np.ndarray = w + 0.2 * w.std() * (a @ b)
    return changed


def _permute_heads(
    times: int, *, layers: tuple[int, ...] = (0, 1, 2), modules: tuple[str, ...] = ("q_proj", "k_proj")
) -> Edit:
    """Interleave the halves of every head once (1), as llama.cpp's converter does it, or undo it once (-1)."""

    def edit(patient: Patient) -> Mapping[str, Any]:
        names = [n for n in patient.names() if n.split(".")[-2] in modules and int(n.split(".")[2]) in layers]
        for name in names:
            heads = 4 if "q_proj" in name else 2

            def how(w: np.ndarray, heads: int = heads) -> np.ndarray:
                half = w.shape[0] // heads // 2
                split = (heads, 2, half) if times > 0 else (heads, half, 2)
                return w.reshape(*split, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)

            patient.change(name, how)
        return {"tensor": frozenset(names)}

    return edit


def _swap(*pairs: tuple[str, str]) -> Edit:
    def edit(patient: Patient) -> None:
        for first, second in pairs:
            patient.swap(first, second)

    return edit


def _swap_layers(patient: Patient) -> None:
    for name in patient.names():
        if name.startswith(_L0):
            patient.swap(name, _L1 + name.removeprefix(_L0))


def _copy(source: str, target: str) -> Edit:
    return lambda patient: patient.put(target, patient.array(source).copy())


def _every_norm(offset: float) -> Edit:
    def edit(patient: Patient) -> Mapping[str, Any]:
        names = [name for name in patient.names() if name.endswith("norm.weight")]
        for name in names:
            patient.change(name, lambda w: w + np.float32(offset))
        return {"tensor": frozenset(names)}

    return edit


def _remove(name: str) -> Edit:
    return lambda patient: patient.remove(name)


def _remove_biases(patient: Patient) -> Mapping[str, Any]:
    names = [name for name in patient.names() if name.endswith(".bias")]
    for name in names:
        patient.remove(name)
    return {"tensor": frozenset(names)}


def _extra_layer(patient: Patient) -> None:
    for name in patient.names():
        if name.startswith(_L1):
            patient.put("model.layers.3." + name.removeprefix(_L1), patient.array(name).copy())


def _extra_tensor(patient: Patient) -> None:
    name = "blk.1.attn_sinks.weight" if isinstance(patient, GgufPatient) else _L1 + "self_attn.sinks"
    patient.put(name, np.ones(4, dtype=np.float32))


def _extra_bias(patient: Patient) -> None:
    for layer in range(3):
        for module, rows in (("q_proj", 64), ("k_proj", 32), ("v_proj", 32), ("o_proj", 64)):
            bias = np.random.default_rng(layer).standard_normal(rows).astype(np.float32)
            patient.put(f"model.layers.{layer}.self_attn.{module}.bias", bias)


def _tie(patient: Patient) -> None:
    patient.remove(_HEAD)
    _flag(patient)


def _flag(patient: Patient) -> None:
    from mutants._patient_apr import AprPatient

    if isinstance(patient, AprPatient):
        patient.metadata["tied_embeddings"] = True
    patient.set("tie_word_embeddings", True)


def _head_is_embedding(patient: Patient) -> None:
    patient.put(_HEAD, patient.array(_EMBED).copy())


def _wrong_head(patient: Patient) -> None:
    patient.put(_HEAD, _reinitialised(patient.array(_EMBED)).astype(np.float32))
    if not isinstance(patient, GgufPatient):
        patient.set("tie_word_embeddings", False)
