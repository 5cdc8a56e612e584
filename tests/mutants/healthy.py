"""Pairs in which nothing is wrong: other containers, kernels, threads, schedules, honest rounding, harmless differences."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tiny
from apr.engines._subject import Subject
from mutants import healthy_rounding, models
from mutants._engines import InPieces, OneByOne, Wrapped, loader
from mutants._patient import Patient, open_patient
from mutants._patient_gguf import GgufPatient
from mutants._patient_safetensors import SafetensorsPatient
from mutants._safetensors import write_tensors
from mutants.healthy_rounding import requantised
from mutants.mutant import Healthy, Make, Planted, Ward, each
from mutants.plant_tokenizer import shorten_padding

_ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3")
_VARIANTS = ("llama-tied", "llama-linear", "llama-yarn", "qwen2-tied")


def pairs() -> list[Healthy]:
    """Those of the twins."""
    return [*_containers(), *_arithmetic(), *healthy_rounding.pairs(), *_harmless(), *_language()]


def real() -> list[Healthy]:
    """Those of the real models."""
    both = ("smollm2", "qwen2.5-coder:0.5b")
    return [
        *each("threads.1_and_2", both, _threads),
        *each("kernels.numpy", ("smollm2",), _numpy),
        *each("schedule.in_pieces", ("smollm2",), _wrapped(InPieces)),
        *each("format.dequantised_f32", ("smollm2",), requantised("f32")),
        *each("rounding.f16", ("smollm2",), requantised("f16")),
        *each("rounding.q8_0", both, requantised("q8_0")),
        *each("rounding.q5_1", ("smollm2",), requantised("q5_1")),
        *each("rounding.q4_0", ("smollm2",), requantised("q4_0")),
        *each("harmless.keys_reordered", both, _operated("gguf", _reorder)),
        *each("harmless.metadata_added", both, _operated("gguf", _more_metadata)),
        *each("template.blank_between_blocks", ("smollm2",), _operated("gguf", _comment_in_template)),
        *each("activations.int8", both, _int8("q8_0")),
    ]


def _containers() -> list[Healthy]:
    formats = [("safetensors", "gguf"), ("gguf", "apr"), ("apr", "safetensors")]
    found = [
        healthy
        for first, second in formats
        for healthy in each(f"format.{first}_{second}", (*_ARCHITECTURES, *_VARIANTS), _formats(first, second))
    ]
    again = [h for f in tiny.FORMATS for h in each(f"format.{f}_again", ("qwen2", "gemma3_text"), _formats(f, f))]
    return [*found, *again, *each("format.f16_both", ("llama", "qwen2"), _formats("safetensors", "gguf", codec="f16"))]


def _arithmetic() -> list[Healthy]:
    return [
        *each("threads.1_and_2", ("llama", "qwen2", "gemma3_text"), _threads),
        *each("kernels.numpy", _ARCHITECTURES, _numpy),
        *each("schedule.wrapped", ("llama", "qwen3"), _wrapped(Wrapped)),
        *each("schedule.one_by_one", ("llama", "qwen2"), _wrapped(OneByOne)),
        *each("schedule.in_pieces", ("mistral", "qwen2", "gemma3_text"), _wrapped(InPieces)),
        *each("activations.int8", ("llama", "qwen2", "qwen3"), _int8("q8_0")),
        *each("activations.int8_q4", ("llama", "qwen2"), _int8("q4_0")),
    ]  # fmt: skip


def _harmless() -> list[Healthy]:
    return [
        *each("harmless.shards", ("llama", "qwen2", "gemma3_text"), _sharded),
        *each("harmless.tensors_reordered", ("llama", "qwen3"), _operated("gguf", _reorder_tensors)),
        *each("harmless.tensors_reordered_folder", ("qwen2",), _operated("safetensors", _reorder_tensors)),
        *each("harmless.keys_reordered", ("llama", "gemma3_text"), _operated("gguf", _reorder)),
        *each("harmless.metadata_added", ("llama", "qwen2"), _operated("gguf", _more_metadata)),
        *each("harmless.metadata_added_folder", ("qwen3",), _operated("safetensors", _more_config)),
        *each("harmless.tied_head_stored", ("llama-tied", "qwen2-tied", "gemma3_text"), _operated("safetensors", _store_head)),
        *each("harmless.tied_head_stored_gguf", ("llama-tied",), _operated("gguf", _store_head)),
        *each("harmless.vocabulary_padded", ("llama", "qwen2", "qwen3"), _padded),
        *each("harmless.vocabulary_padded_gguf", ("qwen2",), _padded_gguf),
        # as upstream's importers leave it: no reader looks for a name of a row that nobody writes
        *each("harmless.padding_unnamed", ("qwen3",), _operated("apr", shorten_padding)),
        *each("harmless.inverse_frequencies_stored", ("llama",), _operated("safetensors", _store_frequencies)),
    ]  # fmt: skip


def _language() -> list[Healthy]:
    return [
        *each("template.comment", ("llama", "qwen2"), _operated("gguf", _comment_in_template)),
        *each("template.written_otherwise", ("llama", "qwen3"), _operated("gguf", _double_quotes)),
        *each("template.in_its_own_file", ("qwen2",), _operated("safetensors", _template_file)),
        *each("stop.list_in_other_order", ("llama",), _operated("safetensors", _stop_order)),
        *each("tokenizer.pre_by_its_other_name", ("qwen2",), _operated("gguf", _other_name)),
    ]


# files


def _formats(first: str, second: str, *, codec: str = "f32") -> Make:
    def make(ward: Ward, pair: Healthy) -> Planted:
        a, b = (ward.healthy(pair.variant, f, codec=codec) for f in (first, second))
        return Planted(ward.subject(a), ward.subject(b))

    return make


def _operated(file_format: str, edit: Callable[[Patient], None]) -> Make:
    """A harmless operation."""

    def make(ward: Ward, pair: Healthy) -> Planted:
        patient = open_patient(ward.healthy(pair.variant, file_format))
        edit(patient)
        candidate = patient.save(ward.folder(pair.id))
        return Planted(ward.subject(ward.healthy(pair.variant, file_format)), ward.subject(candidate))

    return make


def _sharded(ward: Ward, pair: Healthy) -> Planted:
    """Two files and an index."""
    source = ward.healthy(pair.variant, "safetensors")
    patient = SafetensorsPatient(source)
    tensors = patient.parts.tensors
    names = list(tensors)
    folder = ward.folder(pair.id)
    patient.save(folder)
    (folder / "model.safetensors").unlink()
    index: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        write_tensors(folder / file, {name: tensors[name] for name in part}, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    size = sum(t.data.size for t in tensors.values())
    document = {"metadata": {"total_size": size}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(document), encoding="utf-8")
    return Planted(ward.subject(source), ward.subject(folder))


def _padded(ward: Ward, pair: Healthy) -> Planted:
    """The embedding has 64 more rows than the tokenizer has entries; the original has fewer."""
    patient = SafetensorsPatient(ward.healthy(pair.variant, "safetensors"))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        values = patient.array(name)
        patient.put(name, np.concatenate([values, np.zeros((64, values.shape[1]), dtype=np.float32)]))
    patient.set("vocab_size", models.VOCAB_SIZE + 64)
    candidate = patient.save(ward.folder(pair.id))
    return Planted(ward.subject(ward.healthy(pair.variant, "safetensors")), ward.subject(candidate))


def _padded_gguf(ward: Ward, pair: Healthy) -> Planted:
    patient = open_patient(ward.healthy(pair.variant, "gguf"))
    assert isinstance(patient, GgufPatient)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        values = patient.array(name)
        patient.put(name, np.concatenate([values, np.zeros((64, values.shape[1]), dtype=np.float32)]))
    tokens = patient.tokens()
    patient.set_tokens([*tokens, *(f"[PAD{i}]" for i in range(len(tokens), len(tokens) + 64))])
    types = patient.parts.get("tokenizer.ggml.token_type")
    patient.parts.set("tokenizer.ggml.token_type", [*types, *([5] * 64)])
    candidate = patient.save(ward.folder(pair.id))
    return Planted(ward.subject(ward.healthy(pair.variant, "safetensors")), ward.subject(candidate))


def _reorder_tensors(patient: Patient) -> None:
    tensors = patient.parts.tensors  # type: ignore[attr-defined]
    reverse = dict(reversed(list(tensors.items())))
    tensors.clear()
    tensors.update(reverse)


def _reorder(patient: Patient) -> None:
    assert isinstance(patient, GgufPatient)
    first, *others = patient.parts.keys.items()
    patient.parts.keys = dict([first, *reversed(others)])


def _more_metadata(patient: Patient) -> None:
    assert isinstance(patient, GgufPatient)
    patient.parts.set("general.url", "https://example.org/model", kind=8)
    patient.parts.set("general.name", "another name", kind=8)
    patient.parts.set("general.languages", ["en", "de"], kind=9, item=8)
    patient.parts.set("quantize.imatrix.chunks_count", 128, kind=5)


def _more_config(patient: Patient) -> None:
    assert isinstance(patient, SafetensorsPatient)
    patient.config |= {"_name_or_path": "somewhere/else", "transformers_version": "4.99.0", "use_cache": False}
    patient.parts.metadata |= {"written_by": "somebody else"}


def _store_head(patient: Patient) -> None:
    patient.put("lm_head.weight", patient.array("model.embed_tokens.weight").copy())


def _store_frequencies(patient: Patient) -> None:
    """Files of old transformers hold what every reader computes."""
    for layer in range(3):
        values = (1.0 / 10000.0 ** (np.arange(8) / 8)).astype(np.float32)
        patient.put(f"model.layers.{layer}.self_attn.rotary_emb.inv_freq", values)


def _comment_in_template(patient: Patient) -> None:
    patient.set_template("{#- written by hand -#}\n" + (patient.template() or ""))


def _double_quotes(patient: Patient) -> None:
    text = patient.template() or ""
    patient.set_template(
        text.replace("message['role']", "message.role").replace("message['content']", 'message["content"]')
    )


def _template_file(patient: Patient) -> None:
    """Moved from tokenizer_config.json to where today's transformers keeps it: not in JSON, so that `save` needs a hook."""
    assert isinstance(patient, SafetensorsPatient)
    text, inner = patient.template() or "", patient.save

    def save(folder: Path) -> Path:
        patient.set_template(None)
        inner(folder)
        (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
        return folder

    patient.save = save  # type: ignore[method-assign]


def _stop_order(patient: Patient) -> None:
    assert isinstance(patient, SafetensorsPatient)
    generation = patient.parts.documents["generation_config.json"]
    generation["eos_token_id"] = generation["eos_token_id"][::-1]


def _other_name(patient: Patient) -> None:
    """A name of the same split rule."""
    assert isinstance(patient, GgufPatient)
    patient.parts.set("tokenizer.ggml.pre", "deepseek-r1-qwen")


# engines


def _threads(ward: Ward, pair: Healthy) -> Planted:
    path = ward.healthy(pair.variant, "gguf")
    return Planted(ward.subject(path, threads=1), ward.subject(path, threads=2))


def _numpy(ward: Ward, pair: Healthy) -> Planted:
    path = ward.healthy(pair.variant, "gguf")
    return Planted(ward.subject(path), Subject(path, "numpy", threads=ward.threads))


def _int8(codec: str) -> Make:
    """The arithmetic of `apr run` against the exact one, over the same quantised file."""

    def make(ward: Ward, pair: Healthy) -> Planted:
        path = ward.healthy(pair.variant, "gguf", codec=codec)
        return Planted(ward.subject(path), ward.subject(path, name="int8", activations="int8"))

    return make


def _wrapped(kind: type[Wrapped]) -> Make:
    def make(ward: Ward, pair: Healthy) -> Planted:
        path = ward.healthy(pair.variant, "gguf")
        options: Mapping[str, Any] = {"name": kind.__name__, "loader": loader(kind)}
        return Planted(ward.subject(path), ward.subject(path, **options))

    return make
