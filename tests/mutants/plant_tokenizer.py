"""Defects of the tokenizer: entries, merges, split rule, special tokens, beginning of text, padding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mutants._patient import Patient
from mutants._patient_apr import AprPatient
from mutants._patient_gguf import GgufPatient
from mutants._patient_safetensors import SafetensorsPatient
from mutants.mutant import Edit, Mutant, planted, surgery

_BPE = "llama/gguf qwen2/safetensors mistral/apr"


def mutants() -> list[Mutant]:
    """Those of the twins."""
    return [*_vocabulary(), *_merges(), *_pre(), *_special(), *_beginning(), *_padding()]


def real() -> list[Mutant]:
    """Those of the real models."""
    smol, qwen = "smollm2/gguf", "qwen2.5-coder:0.5b/gguf"
    return [
        *planted("tokenizer.swapped_entries", f"{smol} {qwen}", surgery(_swap("Ġthe", "Ġof")), "tokenizer.vocab", links="tokenizer"),
        *planted("tokenizer.merges_reordered", qwen, surgery(_swap_merges), "tokenizer.merges", links="tokenizer"),
        *planted("tokenizer.merges_cut", smol, surgery(_cut_merges(0.5)), "tokenizer.merges", links="tokenizer"),
        *planted("tokenizer.pre_renamed", smol, surgery(_rename_pre("qwen2")), "tokenizer.pre", links="tokenizer"),
        *planted("tokenizer.pre_renamed", qwen, surgery(_rename_pre("llama-bpe")), "tokenizer.pre", links="tokenizer"),
        *planted("tokenizer.special_is_normal", f"{smol} {qwen}", surgery(_normal("<|im_start|>")), "tokenizer.special", links="tokenizer"),
        *planted("tokenizer.bos_added", qwen, surgery(_add_bos(True)), "tokenizer.bos", links="tokenizer"),
    ]  # fmt: skip


def _vocabulary() -> list[Mutant]:
    return [
        *planted("tokenizer.swapped_entries", f"{_BPE} qwen3/gguf", surgery(_swap("e", "t")), "tokenizer.vocab", links="tokenizer"),
        *planted("tokenizer.swapped_rare_entries", "qwen2/gguf llama/safetensors", surgery(_swap_ids(70, 90)), "tokenizer.vocab", where={"token_id": frozenset({70, 90})}, links="tokenizer"),
        *planted("tokenizer.swapped_pieces", "gemma3_text/gguf phi3/apr", surgery(_swap("e", "t")), "tokenizer.vocab", links="tokenizer"),
        *planted("tokenizer.entry_renamed", "llama/gguf qwen2/apr", surgery(_rename_entry), "tokenizer.vocab", links="tokenizer"),
        *planted("tokenizer.shifted_entries", "qwen3/gguf llama/apr", surgery(_shift), "tokenizer.vocab", links="tokenizer"),
    ]  # fmt: skip


def _merges() -> list[Mutant]:
    return [
        *planted("tokenizer.merges_reordered", _BPE, surgery(_swap_merges), "tokenizer.merges", links="tokenizer"),
        *planted("tokenizer.merges_reversed", "qwen2/gguf llama/safetensors", surgery(_reverse_merges), "tokenizer.merges", links="tokenizer"),
        *planted("tokenizer.merges_cut", _BPE, surgery(_cut_merges(0.5)), "tokenizer.merges", links="tokenizer"),
        *planted("tokenizer.last_merges_lost", "qwen3/gguf qwen3/safetensors", surgery(_cut_merges(0.95)), "tokenizer.merges", links="tokenizer"),
        *planted("tokenizer.no_merges", "llama/gguf qwen2/apr", surgery(_cut_merges(0.0)), "tokenizer.merges", links="tokenizer"),
        *planted(
            "tokenizer.scores_reversed", "gemma3_text/gguf phi3/gguf", surgery(_reverse_scores), "tokenizer.merges tokenizer.vocab",
            links="tokenizer", reason="scores are the merges of a SentencePiece vocabulary, and stand in its table",
        ),
    ]  # fmt: skip


def _pre() -> list[Mutant]:
    return [
        *planted("tokenizer.pre_renamed", "qwen2/gguf qwen2/safetensors qwen2/apr", surgery(_rename_pre("gpt-2")), "tokenizer.pre", links="tokenizer"),
        *planted("tokenizer.pre_renamed_close", "llama/gguf", surgery(_rename_pre("gpt-2")), "tokenizer.pre", links="tokenizer"),
        *planted("tokenizer.pre_unknown", "qwen3/gguf", surgery(_rename_pre("nobody-knows-this")), "tokenizer.pre", links="tokenizer"),
        *planted("tokenizer.pre_default", "mistral/gguf", surgery(_rename_pre("default")), "tokenizer.pre", links="tokenizer"),
        *planted("tokenizer.pre_gone", "qwen2/gguf", surgery(_drop_pre), "tokenizer.pre", links="tokenizer"),
        *planted("tokenizer.space_prefix_lost", "phi3/gguf", surgery(_no_space_prefix), "tokenizer.pre", links="tokenizer"),
    ]  # fmt: skip


def _special() -> list[Mutant]:
    bad_id = "an id that names the wrong token is a special token's fault, and changes what ends a turn"
    return [
        *planted("tokenizer.special_is_normal", "qwen2/gguf qwen2/apr qwen3/safetensors", surgery(_normal("<|im_start|>")), "tokenizer.special", links="tokenizer"),
        *planted("tokenizer.turn_is_normal", "gemma3_text/gguf", surgery(_normal("<start_of_turn>")), "tokenizer.special", links="tokenizer"),
        *planted("tokenizer.added_is_normal", "llama/gguf qwen2/safetensors", surgery(_normal("<think>")), "tokenizer.special", links="tokenizer"),
        *planted(
            "tokenizer.eos_id", "qwen2/gguf llama/apr llama/safetensors", surgery(_set_id("eos", "e")), "tokenizer.special stop.extra stop.missing",
            links="tokenizer generation", reason=bad_id,
        ),
        *planted(
            "tokenizer.bos_id", "mistral/gguf gemma3_text/gguf phi3/apr", surgery(_set_id("bos", ",")), "tokenizer.bos tokenizer.special",
            links="tokenizer", reason="the beginning of text is a special token",
        ),
    ]  # fmt: skip


def _beginning() -> list[Mutant]:
    return [
        *planted("tokenizer.bos_added", "qwen2/gguf llama/safetensors qwen3/apr", surgery(_add_bos(True)), "tokenizer.bos", links="tokenizer"),
        *planted("tokenizer.bos_lost", "mistral/gguf gemma3_text/gguf gemma3_text/safetensors phi3/apr", surgery(_add_bos(False)), "tokenizer.bos", links="tokenizer"),
        *planted("tokenizer.eos_added", "qwen2/gguf", surgery(_add_eos), "tokenizer.bos tokenizer.special", links="tokenizer",
                 reason="an end added to every prompt is the same flag's sister; the vocabulary of causes has no word of its own"),
    ]  # fmt: skip


def _padding() -> list[Mutant]:
    shifted = (
        "padding before the special tokens moves their ids: seen from the tokens, it is the vocabulary that differs"
    )
    return [
        *planted("tokenizer.padding_shifted", "qwen2/gguf llama/gguf mistral/apr gemma3_text/gguf", surgery(_shift_padding), "tokenizer.padding tokenizer.vocab", links="tokenizer", reason=shifted),
        *planted("tokenizer.padding_short", "qwen2/gguf qwen3/gguf", surgery(shorten_padding), "tokenizer.padding tokenizer.vocab", links="tokenizer",
                 reason="a table that is shorter than the embedding lacks padding, if nothing else: llama.cpp does not load it"),
        *planted("tokenizer.padding_long", "llama/gguf", surgery(_long_padding), "tokenizer.padding tokenizer.vocab", links="tokenizer",
                 reason="a table that is longer than the embedding has entries that no row stands for"),
    ]  # fmt: skip


def _swap(first: str, second: str) -> Edit:
    def edit(patient: Patient) -> Mapping[str, Any]:
        tokens = patient.tokens()
        ids = [tokens.index(_named(tokens, token)) for token in (first, second)]
        patient.swap_tokens(*ids)
        return {"token_id": frozenset(ids)}

    return edit


def _swap_ids(first: int, second: int) -> Edit:
    return lambda patient: patient.swap_tokens(first, second)


def _named(tokens: list[str], token: str) -> str:
    """The entry as a byte-level vocabulary or a SentencePiece one spells it."""
    return token if token in tokens else token.replace("Ġ", "▁")


def _rename_entry(patient: Patient) -> Mapping[str, Any]:
    """A common entry loses its spelling; no merge makes it any more."""
    tokens = patient.tokens()
    at = tokens.index("e")
    tokens[at] = "ẽẽ"
    _set_tokens(patient, tokens)
    return {"token_id": at}


def _shift(patient: Patient) -> None:
    """One entry is lost, and all behind it move up by one."""
    tokens = patient.tokens()
    at = 300
    end = next(i for i, t in enumerate(tokens) if t.startswith("<|") and i > at)
    tokens[at:end] = [*tokens[at + 1 : end], tokens[at]]
    _set_tokens(patient, tokens)


def _set_tokens(patient: Patient, tokens: list[str]) -> None:
    assert isinstance(patient, GgufPatient | AprPatient)
    patient.set_tokens(tokens)


def _swap_merges(patient: Patient) -> None:
    """Exchange the ranks of two merges that compete for a letter, so that a word of three letters is cut otherwise."""
    merges = patient.merges()
    pairs = [(rank, merge.split(" ")) for rank, merge in enumerate(merges[:3000]) if len(merge) == 3]
    first, second = next(
        (i, j)
        for i, (a, b) in pairs
        for j, (left, c) in pairs
        if j > i + 3 and left == b and a != c and f"{a} {b}{c}" not in merges[:i]
    )
    merges[first], merges[second] = merges[second], merges[first]
    patient.set_merges(merges)


def _reverse_merges(patient: Patient) -> None:
    patient.set_merges(patient.merges()[::-1])


def _cut_merges(share: float) -> Edit:
    def edit(patient: Patient) -> None:
        merges = patient.merges()
        patient.set_merges(merges[: int(share * len(merges))])

    return edit


def _reverse_scores(patient: Patient) -> None:
    assert isinstance(patient, GgufPatient)
    scores = patient.parts.get("tokenizer.ggml.scores")
    patient.parts.set("tokenizer.ggml.scores", [-1000.0 - score for score in scores])


def _rename_pre(name: str) -> Edit:
    def edit(patient: Patient) -> None:
        if isinstance(patient, GgufPatient):
            patient.parts.set("tokenizer.ggml.pre", name)
        elif isinstance(patient, AprPatient):
            patient.metadata["tokenizer.pre_type"] = name
        else:
            assert isinstance(patient, SafetensorsPatient)
            _cut_as_gpt2(patient)

    return edit


def _cut_as_gpt2(patient: SafetensorsPatient) -> None:
    """tokenizer.json with ByteLevel's own regex, GPT-2's, in the place of the model's."""
    before = json.dumps(patient.tokenizer["pre_tokenizer"])
    patient.tokenizer["pre_tokenizer"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    assert json.dumps(patient.tokenizer["pre_tokenizer"]) != before


def _drop_pre(patient: Patient) -> None:
    assert isinstance(patient, GgufPatient)
    del patient.parts.keys["tokenizer.ggml.pre"]


def _no_space_prefix(patient: Patient) -> None:
    assert isinstance(patient, GgufPatient)
    patient.parts.set("tokenizer.ggml.add_space_prefix", False)


def _normal(token: str) -> Edit:
    def edit(patient: Patient) -> Mapping[str, Any]:
        token_id = patient.token_id(token)
        patient.make_normal(token_id)
        return {"token_id": token_id}

    return edit


def _set_id(role: str, token: str) -> Edit:
    def edit(patient: Patient) -> None:
        patient.set_id(role, patient.token_id(token))

    return edit


def _add_bos(wanted: bool) -> Edit:
    def edit(patient: Patient) -> None:
        if isinstance(patient, SafetensorsPatient) and not wanted:
            patient.tokenizer["post_processor"] = None
        patient.set_add_bos(wanted)
        if isinstance(patient, GgufPatient) and wanted and "tokenizer.ggml.bos_token_id" not in patient.parts.keys:
            patient.set_id("bos", patient.parts.get("tokenizer.ggml.eos_token_id"))

    return edit


def _add_eos(patient: Patient) -> None:
    assert isinstance(patient, GgufPatient)
    patient.parts.set("tokenizer.ggml.add_eos_token", True)


def _shift_padding(patient: Patient) -> None:
    """The padding stands before the added tokens, and the ids that the file names have moved along."""
    assert isinstance(patient, GgufPatient | AprPatient)
    tokens = patient.tokens()
    pads = [i for i, token in enumerate(tokens) if token.startswith("[PAD")]
    first_added = next(i for i, token in enumerate(tokens) if token.startswith("<|") or token == "<start_of_turn>")
    low = [i for i in range(len(tokens)) if i not in pads]
    if first_added == 0:  # special tokens at the front: the padding moves before everything
        order = [*pads, *low]
    else:
        order = [*(i for i in low if i < first_added), *pads, *(i for i in low if i >= first_added)]
    _reorder(patient, order)


def _reorder(patient: GgufPatient | AprPatient, order: list[int]) -> None:
    moved = {old: new for new, old in enumerate(order)}
    names = ("bos", "eos", "padding", "eot", "eom", "unknown")
    if isinstance(patient, AprPatient):
        data = patient.metadata
        for name in ("vocabulary", "token_type", "scores"):
            if data.get(f"tokenizer.{name}"):
                data[f"tokenizer.{name}"] = [data[f"tokenizer.{name}"][i] for i in order]
        for key in [f"tokenizer.{name}_token_id" for name in names]:
            if data.get(key) is not None:
                data[key] = moved[data[key]]
        return
    parts = patient.parts
    for name in ("tokens", "token_type", "scores"):
        if (key := f"tokenizer.ggml.{name}") in parts.keys:
            values = parts.get(key)
            parts.set(key, [values[i] for i in order])
    for key in [f"tokenizer.ggml.{name}_token_id" for name in names]:
        if key in parts.keys:
            parts.set(key, moved[parts.get(key)])


def shorten_padding(patient: Patient) -> None:
    """Unused entries at the end are left out."""
    _resize(patient, -8)


def _long_padding(patient: Patient) -> None:
    _resize(patient, 16)


def _resize(patient: Patient, change: int) -> None:
    """Add padding entries, or take some away, while the embedding keeps its rows."""
    tokens = patient.tokens()
    more = [f"[PAD{i}]" for i in range(len(tokens), len(tokens) + max(0, change))]
    if isinstance(patient, AprPatient):
        types = patient.metadata["tokenizer.token_type"]
        patient.metadata["tokenizer.token_type"] = [*types[: len(types) + min(0, change)], *(5 for _ in more)]
        patient.set_tokens([*tokens[: len(tokens) + min(0, change)], *more])
        patient.metadata["tokenizer.vocab_size"] = len(patient.tokens())
        return
    assert isinstance(patient, GgufPatient)
    types = patient.parts.get("tokenizer.ggml.token_type")
    patient.parts.set("tokenizer.ggml.token_type", [*types[: len(types) + min(0, change)], *(5 for _ in more)])
    patient.set_tokens([*tokens[: len(tokens) + min(0, change)], *more])
