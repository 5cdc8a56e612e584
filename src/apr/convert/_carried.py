"""What a model file says beside shape, tokenizer and weights: its name, its licence, how to sample from it, and what nobody here reads.

Each format has its own place for these; a conversion takes them along, and what cannot come is told in a note.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from apr.convert import _card
from apr.formats._base import ModelFile
from apr.models import _config_apr, _config_gguf
from apr.models._checkpoint import Checkpoint
from apr.tokenizer.spec import TokenizerSpec

# where a safetensors file keeps what another format said: a JSON text in `__metadata__`, whose values are texts
SAFETENSORS_KEY = "apr.source_metadata"

DEFAULT_VERSION = "1.0.0"  # what every writer of `.apr` says where nobody said anything
CARD = ("name", "description", "author", "license", "version")  # GGUF has them under `general.`

# transformers' generation_config.json -> GGUF `general.sampling.` (gguf-py, constants.py, Keys.General)
SAMPLING = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
}
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_MADE_BY = ("_from_model_config", "transformers_version")  # who wrote generation_config.json, no setting

# computed anew for every GGUF file, from the tensors that are in it
_COMPUTED = {
    "general.architecture",
    "general.type",
    "general.file_type",
    "general.quantization_version",
    "general.alignment",
}
_TOKENIZER_KEYS = {
    *("tokenizer.chat_template", "tokenizer.ggml.scores"),
    *(
        f"tokenizer.ggml.{name}"
        for name in ("model", "pre", "tokens", "token_type", "merges", "add_bos_token", "add_eos_token")
    ),
    *(f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "unknown", "padding", "eot", "eom")),
    "tokenizer.ggml.add_space_prefix",
}
_READ_TOKENIZER_CONFIG = {
    *("add_bos_token", "add_eos_token", "bos_token", "eos_token", "unk_token", "pad_token", "chat_template"),
    *("added_tokens_decoder", "tokenizer_class", "clean_up_tokenization_spaces", "additional_special_tokens"),
    *("extra_special_tokens", "backend", "is_local", "local_files_only", "add_prefix_space", "legacy"),
}
# `.apr` keys that are written anew or have no meaning outside the file
_APR_KEYS = {
    *(
        "model_type",
        "data_source",
        "data_license",
        "source",
        "original_format",
        "created_at",
        "total_size",
        "param_count",
    ),
    *("quantization", "sharding", "chat_template", "chat_format", "special_tokens", "architecture", "hf_architecture"),
    *("hf_model_type", "rope_type", "tensor_shapes", "tied_embeddings", "source_metadata", "generation_config"),
    _config_apr.HF_CONFIG_KEY,
    *(spelling for spellings in _config_apr.SPELLINGS.values() for spelling in spellings),
}


@dataclass(frozen=True, slots=True)
class Carried:
    """What comes along.

    card:             name, description, author, license, version: those that the source has
    generation:       settings of generation_config.json, without token ids
    source_metadata:  keys that have no other place, as JSON values
    notes:            what does not come along
    """

    card: dict[str, str] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    source_metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(checkpoint: Checkpoint, spec: TokenizerSpec) -> Carried:
    """What the source of a conversion carries."""
    readers: dict[str, Callable[[Checkpoint, TokenizerSpec], Carried]] = {
        "gguf": _from_gguf,
        "apr": _from_apr,
        "safetensors": _from_safetensors,
    }
    return readers[checkpoint.file.format](checkpoint, spec)


def for_gguf(carried: Carried, *, architecture: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """GGUF keys, without those of configuration and tokenizer; and notes on what GGUF has no key for."""
    keys: dict[str, Any] = {f"general.{name}": value for name, value in carried.card.items()}
    keys |= {SAMPLING[name]: value for name, value in carried.generation.items() if name in SAMPLING}
    prefixes = ("general.", "tokenizer.", f"{architecture}.")
    notes = []
    if unknown := sorted(carried.generation.keys() - SAMPLING.keys()):
        notes.append(f"generation settings that GGUF has no key for were left out: {', '.join(unknown)}")
    for key, value in carried.source_metadata.items():
        is_writable = isinstance(value, str | bool | int | float) or (isinstance(value, list) and value)
        if key.startswith(prefixes) and is_writable:
            keys.setdefault(key, value)
        else:
            notes.append(f"metadata {key!r} was left out: it is no key of GGUF, or has no GGUF type")
    return keys, tuple(notes)


def _from_gguf(checkpoint: Checkpoint, spec: TokenizerSpec) -> Carried:
    metadata = checkpoint.file.metadata
    sampling = {hf: metadata[gguf] for hf, gguf in SAMPLING.items() if gguf in metadata}
    card = {name: metadata[f"general.{name}"] for name in CARD if isinstance(metadata.get(f"general.{name}"), str)}
    native = _COMPUTED | _TOKENIZER_KEYS | set(SAMPLING.values()) | set(_config_gguf.to_gguf(checkpoint.config))
    native |= {f"general.{name}" for name in card}
    rest = {key: _plain(value) for key, value in metadata.items() if key not in native}
    notes = []
    if spec.kind != "spm" and "tokenizer.ggml.scores" in metadata:
        notes.append("tokenizer.ggml.scores was left out: byte-level BPE reads none")
    return Carried(card, sampling, rest, tuple(notes))


def _from_apr(checkpoint: Checkpoint, spec: TokenizerSpec) -> Carried:
    del spec
    metadata = checkpoint.file.metadata
    card = {name: metadata[name] for name in CARD if isinstance(metadata.get(name), str)}
    if card.get("version") == DEFAULT_VERSION:
        card.pop("version")
    if card.get("name") == checkpoint.config.model_type:  # what is written where the source has no name
        card.pop("name")
    known = _APR_KEYS | set(CARD)
    left = sorted(k for k, v in metadata.items() if k not in known and not k.startswith("tokenizer.") and v is not None)
    left += [k for k in ("data_source", "data_license", "chat_format") if metadata.get(k) is not None]
    notes = (f"keys of .apr that the target has no place for were left out: {', '.join(left)}",) if left else ()
    return Carried(card, _object(metadata.get("generation_config")), _object(metadata.get("source_metadata")), notes)


def _from_safetensors(checkpoint: Checkpoint, spec: TokenizerSpec) -> Carried:
    del spec
    file = checkpoint.file
    config, settings = _document(file, "config.json"), _document(file, "generation_config.json")
    stated = config.get("_name_or_path")
    name = stated if isinstance(stated, str) and stated else _folder_name(file)
    stored = file.metadata.get(SAFETENSORS_KEY)
    source_metadata = _object(_parsed(stored)) if isinstance(stored, str) else {}
    card = {key: source_metadata.pop(f"general.{key}") for key in CARD if f"general.{key}" in source_metadata}
    source_metadata |= {k: v for k, v in file.metadata.items() if k not in ("format", SAFETENSORS_KEY)}
    generation = {k: v for k, v in settings.items() if k not in (*_TOKEN_IDS, *_MADE_BY) and v is not None}
    stated, notes = _card.read(file.files[0].parent)
    said = {key: text for key in CARD if (text := stated.pop(f"general.{key}", None)) is not None}
    card = {"name": name.rstrip("/").rpartition("/")[2]} | said | card
    notes += tuple(_notes_on_documents(checkpoint))
    return Carried(card, generation, stated | source_metadata, notes)


def _notes_on_documents(checkpoint: Checkpoint) -> list[str]:
    notes = []
    if checkpoint.config.unread:
        notes.append(f"keys of config.json that nobody here reads were left out: {', '.join(checkpoint.config.unread)}")
    settings = _document(checkpoint.file, "tokenizer_config.json")
    if left := sorted(k for k, v in settings.items() if k not in _READ_TOKENIZER_CONFIG and v is not None):
        notes.append(f"keys of tokenizer_config.json that the target has no place for were left out: {', '.join(left)}")
    templates = settings.get("chat_template")
    if isinstance(templates, list | dict) and len(templates) > 1:
        notes.append(f"only the default one of {len(templates)} chat templates was taken")
    return notes


def _folder_name(file: ModelFile) -> str:
    path = file.path.resolve()
    return path.name if path.is_dir() else path.parent.name


def _document(file: ModelFile, name: str) -> Mapping[str, Any]:
    value = file.documents.get(name)
    return value if isinstance(value, Mapping) else {}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _object(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _plain(value: Any) -> Any:
    """A GGUF value as JSON has it: arrays as lists."""
    return value.tolist() if hasattr(value, "tolist") else value
