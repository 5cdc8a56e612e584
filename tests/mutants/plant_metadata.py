"""Defects of the configuration: a value changed, ignored or left out."""

from __future__ import annotations

from typing import Any

from mutants._patient import Patient
from mutants._patient_gguf import GgufPatient
from mutants.mutant import Edit, Mutant, planted, surgery

_GONE = "metadata.missing metadata.value"
_GONE_BECAUSE = "a key that is gone is missing in the file, and another value in the model"
_SCALING = frozenset({"rope_scaling", "rope_scaling.factor", "rope_scaling.rope_type", "rope_scaling.type"})
_ARCHITECTURE = frozenset({"architecture", "model_type"})


def mutants() -> list[Mutant]:
    """Those of the twins."""
    return [*_values(), *_shapes(), *_dropped(), *_missing()]


def real() -> list[Mutant]:
    """Those of the real models."""
    smol, qwen = "smollm2/gguf", "qwen2.5-coder:0.5b/gguf"
    return [
        *_changed("rope_theta", 10000.0, qwen),
        *_changed("rope_theta", 500000.0, smol),
        *_changed("rms_norm_eps", 1e-3, qwen),
        *_changed("rms_norm_eps", 1e-6, smol),
        *_changed("max_position_embeddings", 512, smol),
        *_gone("rope_theta", qwen),
    ]


def _values() -> list[Mutant]:
    return [
        *_changed("rope_theta", 10000.0, "llama/gguf qwen2/gguf qwen2/safetensors qwen3/apr gemma3_text/gguf gemma3_text/safetensors"),
        *_changed("rope_theta", 20000.0, "phi3/gguf mistral/safetensors"),
        *_changed("rms_norm_eps", 1e-6, "llama/gguf llama/safetensors llama/apr"),
        *_changed("rms_norm_eps", 1e-2, "qwen2/gguf gemma3_text/apr phi3/safetensors qwen3/gguf", name="rms_norm_eps_large"),
        *_changed("max_position_embeddings", 128, "llama/gguf qwen2/safetensors mistral/apr"),
        *_changed("rope_scaling.factor", 8.0, "llama-linear/gguf llama-linear/safetensors llama-yarn/gguf", keys=_SCALING),
        *_changed("sliding_window", 48, "mistral/gguf gemma3_text/safetensors mistral/apr"),
        *_changed("final_logit_softcapping", 5.0, "gemma3_text/gguf gemma3_text/safetensors gemma3_text/apr"),
        *_changed("rope_local_base_freq", 100000.0, "gemma3_text/gguf gemma3_text/safetensors"),
        *_changed("partial_rotary_factor", 8, "phi3/gguf"),
        *_changed("partial_rotary_factor", 0.5, "phi3/safetensors"),
        *_changed("hidden_act", "gelu_pytorch_tanh", "llama/safetensors qwen2/apr"),
        *planted("metadata.hidden_activation", "gemma3_text/safetensors gemma3_text/apr", surgery(_set("hidden_activation", "silu")), "metadata.value", where={"key": frozenset({"hidden_act", "hidden_activation"})}, links="metadata"),
        *_changed("query_pre_attn_scalar", 64, "gemma3_text/safetensors gemma3_text/apr"),
        *_changed("layer_types", ["full_attention", "sliding_attention"] * 2, "gemma3_text/safetensors"),
        *planted("metadata.layer_types", "gemma3_text/gguf", surgery(_pattern), "metadata.value", where={"key": "layer_types"}, links="metadata"),
        *planted("metadata.architecture", "qwen2/gguf", surgery(_rename_gguf), "metadata.value", where={"key": _ARCHITECTURE}, links="metadata"),
        *planted("metadata.architecture", "qwen2/safetensors", surgery(_set("model_type", "llama")), "metadata.value", where={"key": _ARCHITECTURE}, links="metadata"),
        *planted(
            "metadata.wrong_type", "llama/safetensors", surgery(_set("rope_theta", "ten thousand")), "metadata.value metadata.missing",
            where={"key": "rope_theta"}, links="metadata", reason="a text where a number belongs is a wrong value and no value",
        ),
    ]  # fmt: skip


def _shapes() -> list[Mutant]:
    """Values that no longer fit the tensors."""
    return [
        *_changed("num_key_value_heads", 4, "llama/gguf qwen2/safetensors"),
        *_changed("num_key_value_heads", 1, "qwen3/gguf mistral/apr"),
        *_changed("num_attention_heads", 2, "llama/safetensors"),
        *_changed("head_dim", 32, "qwen3/gguf qwen3/safetensors gemma3_text/apr"),
        *_changed("num_hidden_layers", 2, "llama/gguf qwen2/safetensors qwen3/apr"),
        *_changed("intermediate_size", 64, "llama/gguf"),
        *_changed("vocab_size", 640, "llama/safetensors"),
        *planted("metadata.heads_regrouped", "llama/gguf llama/safetensors", surgery(_regroup), "metadata.value", where={"key": frozenset({"num_attention_heads", "num_key_value_heads", "head_dim"})}, links="metadata"),
    ]  # fmt: skip


def _dropped() -> list[Mutant]:
    """A feature of the model that the copy no longer mentions."""
    none: Edit = _set("sliding_window", None)
    return [
        *planted("metadata.rope_scaling_dropped", "llama-linear/gguf llama-yarn/gguf llama-yarn/safetensors llama-linear/apr", surgery(_drop("rope_scaling")), _GONE, where={"key": _SCALING}, links="metadata", reason=_GONE_BECAUSE),
        *planted("metadata.window_dropped", "mistral/gguf gemma3_text/gguf", surgery(_drop("sliding_window")), _GONE, where={"key": "sliding_window"}, links="metadata", reason=_GONE_BECAUSE),
        *planted("metadata.window_dropped", "mistral/safetensors gemma3_text/safetensors", surgery(none), _GONE, where={"key": "sliding_window"}, links="metadata", reason=_GONE_BECAUSE),
        *planted("metadata.softcap_dropped", "gemma3_text/gguf gemma3_text/safetensors gemma3_text/apr", surgery(_drop("final_logit_softcapping")), _GONE, where={"key": "final_logit_softcapping"}, links="metadata", reason=_GONE_BECAUSE),
        *planted("metadata.rope_scaling_type", "llama-yarn/gguf", surgery(_linear), "metadata.value", where={"key": _SCALING}, links="metadata"),
    ]  # fmt: skip


def _missing() -> list[Mutant]:
    """Keys that are gone, with and without a default to fall back on."""
    return [
        *_gone("rope_theta", "llama/gguf qwen2/gguf qwen2/safetensors"),
        *_gone("rms_norm_eps", "qwen2/gguf llama/safetensors"),
        *_gone("hidden_size", "llama/safetensors mistral/gguf"),
        *_gone("num_hidden_layers", "qwen3/gguf"),
        *_gone("num_key_value_heads", "llama/safetensors qwen2/gguf"),
        *_gone("head_dim", "qwen3/safetensors"),
    ]


def _changed(key: str, value: Any, sites: str, *, name: str = "", keys: frozenset[str] | None = None) -> list[Mutant]:
    place = {"key": keys or key}
    return planted(
        f"metadata.{name or key}", sites, surgery(_set(key, value)), "metadata.value", where=place, links="metadata"
    )


def _gone(key: str, sites: str) -> list[Mutant]:
    return planted(
        f"metadata.{key}_gone",
        sites,
        surgery(_drop(key)),
        _GONE,
        where={"key": key},
        links="metadata",
        reason=_GONE_BECAUSE,
    )


def _set(key: str, value: Any) -> Edit:
    def edit(patient: Patient) -> None:
        assert patient.setting(key) != value, f"{key} is {value!r} already"
        patient.set(key, value)

    return edit


def _drop(key: str) -> Edit:
    return lambda patient: patient.drop(key)


def _regroup(patient: Patient) -> None:
    """Eight heads of eight instead of four of sixteen: every shape still fits."""
    patient.set("num_attention_heads", 8)
    patient.set("num_key_value_heads", 4)
    if isinstance(patient, GgufPatient):
        patient.set("partial_rotary_factor", 8)
    else:
        patient.set("head_dim", 8)


def _pattern(patient: Patient) -> None:
    """Every fourth layer sees everything, instead of every second."""
    assert isinstance(patient, GgufPatient)
    patient.parts.set("gemma3.attention.sliding_window_pattern", 4)


def _linear(patient: Patient) -> None:
    assert isinstance(patient, GgufPatient)
    patient.parts.set("llama.rope.scaling.type", "linear")


def _rename_gguf(patient: Patient) -> None:
    """A qwen2 file that says it is llama: its biases are ignored and its heads shuffled."""
    assert isinstance(patient, GgufPatient)
    keys = patient.parts.keys
    patient.parts.set("general.architecture", "llama")
    patient.parts.keys = {name.replace("qwen2.", "llama.", 1): value for name, value in keys.items()}
