"""Defects of the stop ids: a turn that does not end, or ends too early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mutants._patient import Patient
from mutants._patient_safetensors import SafetensorsPatient
from mutants.models import TURN_OVER
from mutants.mutant import Edit, Mutant, planted, surgery

_LINKS = "generation tokenizer"


def mutants() -> list[Mutant]:
    """Those of the twins."""
    both = "one id is lost and one is added"
    return [
        *planted("stop.list_short", "llama/gguf qwen2/gguf qwen2/safetensors qwen3/apr gemma3_text/gguf phi3/safetensors", surgery(_short), "stop.missing", links=_LINKS),
        *planted("stop.list_gone", "llama/safetensors mistral/safetensors", surgery(_no_generation_config), "stop.missing", links=_LINKS),
        *planted("stop.extra_newline", "llama/gguf qwen2/safetensors mistral/apr", surgery(_extra("Ċ")), "stop.extra", links=_LINKS),
        *planted("stop.extra_letter", "gemma3_text/gguf qwen3/gguf", surgery(_extra("e")), "stop.extra", links=_LINKS),
        *planted("stop.replaced", "qwen2/gguf llama/apr", surgery(_instead("Ċ")), "stop.missing stop.extra", links=_LINKS, reason=both),
    ]  # fmt: skip


def real() -> list[Mutant]:
    """Those of the real models."""
    return [
        *planted(
            "stop.extra_newline",
            "smollm2/gguf qwen2.5-coder:0.5b/gguf",
            surgery(_extra_only("Ċ")),
            "stop.extra",
            links=_LINKS,
        ),
    ]


def _short(patient: Patient) -> Mapping[str, Any]:
    """Only the ids that a reader knows by their text are left."""
    patient.set_stop_list([])
    return {"token_id": patient.token_id(TURN_OVER)}


def _no_generation_config(patient: Patient) -> Mapping[str, Any]:
    assert isinstance(patient, SafetensorsPatient)
    del patient.parts.documents["generation_config.json"]
    return {"token_id": patient.token_id(TURN_OVER)}


def _extra(token: str) -> Edit:
    def edit(patient: Patient) -> Mapping[str, Any]:
        extra = patient.token_id(token)
        patient.set_stop_list([patient.token_id(TURN_OVER), extra])
        return {"token_id": extra}

    return edit


def _extra_only(token: str) -> Edit:
    def edit(patient: Patient) -> Mapping[str, Any]:
        extra = patient.token_id(token)
        patient.set_stop_list([extra])
        return {"token_id": extra}

    return edit


def _instead(token: str) -> Edit:
    def edit(patient: Patient) -> Mapping[str, Any]:
        ids = patient.token_id(token), patient.token_id(TURN_OVER)
        patient.set_stop_list([ids[0]])
        return {"token_id": frozenset(ids)}

    return edit
