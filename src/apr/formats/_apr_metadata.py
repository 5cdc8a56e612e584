"""The metadata of `.apr`: one JSON object with typed keys, and the trap of the second spelling.

aprender refuses a file whose typed keys have the wrong type. realizar accepts several spellings of each dimension, and
if two spellings of one field occur, even as `null`, its parser fails and it goes on with *no* metadata at all: no
architecture, no tokenizer. So a file never holds two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from apr.errors import BadMetadata, ForeignFormat
from apr.formats._apr_findings import Findings

# the first spelling is the canonical one: realizar's src/apr/metadata.rs, aprender's canonicalize_hf_aliases
SPELLINGS = (
    ("hidden_size", "hidden_dim", "d_model", "n_embd"),
    ("num_layers", "n_layers", "num_hidden_layers", "n_layer"),
    ("num_heads", "n_heads", "num_attention_heads", "n_head"),
    ("num_kv_heads", "n_kv_heads", "num_key_value_heads"),
    ("vocab_size", "n_vocab"),
    ("intermediate_size", "ffn_dim", "intermediate_dim", "n_inner"),
    ("max_position_embeddings", "max_seq_len", "context_length", "n_ctx"),
    ("rms_norm_eps", "layer_norm_eps", "norm_eps"),
)
CANONICAL = {alias: names[0] for names in SPELLINGS for alias in names[1:]}

F32_KEYS = frozenset({"rope_theta", "rms_norm_eps"})
_F32_MAX = 3.4028234663852886e38
_REQUIRED = frozenset({"model_type", "total_size", "param_count"})  # present or absent, never null
_STRINGS = (
    *("model_type", "name", "description", "author", "license", "data_source", "data_license", "version", "source"),
    *("original_format", "created_at", "chat_template", "chat_format"),
    *("architecture", "hf_architecture", "hf_model_type"),
)
_COUNTS = (
    *("total_size", "param_count", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "vocab_size"),
    *("intermediate_size", "max_position_embeddings", "num_experts", "num_experts_per_tok", "moe_intermediate_size"),
)
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "im_start_token", "im_end_token")

_Check = Callable[[Any], bool]


def check_metadata(path: Path, metadata: Mapping[str, Any], *, raw: bytes, offset: int, findings: Findings) -> None:
    """Refuse wrong types, two spellings of one field, and the one key that changes what the data means.

    raw, offset:  the JSON text and where it starts in the file, for the byte that an error names
    """

    def at(key: str) -> int:
        found = re.search(b'"' + re.escape(key.encode()) + rb'"\s*:', raw)
        return offset + found.start() if found else offset

    for key, problem in wrong_types(metadata):
        findings.defect(BadMetadata(path, f"metadata key {problem}", offset=at(key)))
    for first, second in clashes(metadata):
        message = (
            f"metadata has {first!r} and {second!r}, two spellings of one field ({_state(metadata[first])} and "
            f"{_state(metadata[second])}); realizar would drop all metadata, keep only {CANONICAL[second]!r}"
        )
        findings.defect(BadMetadata(path, message, offset=at(second)))
    if metadata.get("format") == "entrenar-checkpoint":
        message = (
            "this is a checkpoint of entrenar ('format' is 'entrenar-checkpoint'), whose 2-D weights are stored "
            "transposed; export it with entrenar as a model, then open that"
        )
        findings.defect(ForeignFormat(path, message, offset=at("format")))
    if not metadata:
        findings.warn("metadata-empty", "the metadata is an empty object: no architecture, dimensions or tokenizer")


def check_outgoing(path: Path, metadata: Mapping[str, Any]) -> None:
    """Refuse metadata that upstream's readers would reject or lose: wrong types, other spellings, null dimensions.

    Raises BadMetadata. `null` is kept for all other optional keys, as upstream's own writer does.
    """
    for _, problem in wrong_types(metadata):
        raise BadMetadata(path, f"not written: metadata key {problem}")
    for key, value in metadata.items():
        if key in CANONICAL:
            message = f"not written: metadata key {key!r} is another spelling of {CANONICAL[key]!r}; rename it"
            raise BadMetadata(path, message)
        if value is None and key in {names[0] for names in SPELLINGS}:
            message = (
                f"not written: metadata key {key!r} is null, which readers confuse with its other spellings; drop it"
            )
            raise BadMetadata(path, message)


def canonical(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The same metadata with every dimension under its canonical spelling; a null gives way to a value."""
    made: dict[str, Any] = {}
    for key, value in metadata.items():
        name = CANONICAL.get(key, key)
        if made.get(name) is None:
            made[name] = value
    return made


def clashes(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of keys that spell one field; the second is never the canonical one."""
    found = []
    for names in SPELLINGS:
        present = [name for name in names if name in metadata]
        found += [(present[0], other) for other in present[1:]]
    return found


def wrong_types(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Typed keys with the wrong type: the key, and what was found and expected."""
    found = []
    for key, value in metadata.items():
        check, expected = _TYPED.get(CANONICAL.get(key, key), (_anything, ""))
        if value is None and key not in _REQUIRED:
            continue
        if not check(value):
            found.append((key, f"{key!r} is {_shown(value)}, expected {expected}"))
    return found


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _is_string_or_null(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_u64(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64


def _is_u32(value: Any) -> bool:
    return _is_u64(value) and value < 1 << 32


def _is_f32(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _F32_MAX


def _is_special_tokens(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_string_or_null(value.get(key)) for key in _SPECIAL_TOKENS)


def _is_quantization(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_string(value.get("quant_type"))
        and _is_u32(value.get("bits"))
        and value["bits"] < 256
        and (value.get("block_size") is None or _is_u64(value["block_size"]))
        and isinstance(value.get("symmetric"), bool)
    )


def _is_sharding(value: Any) -> bool:
    counts = ("shard_count", "shard_index", "total_size")
    return (
        isinstance(value, dict)
        and all(_is_u64(value.get(key)) for key in counts)
        and _is_string_or_null(value.get("pattern"))
    )


def _anything(value: Any) -> bool:
    return True


_TYPED: dict[str, tuple[_Check, str]] = {
    **dict.fromkeys(_STRINGS, (_is_string, "a string")),
    **dict.fromkeys(_COUNTS, (_is_u64, "an integer without a fraction or exponent, from 0 to 2^64 - 1")),
    **dict.fromkeys(F32_KEYS, (_is_f32, "a number that fits a 32-bit float")),
    "rope_type": (_is_u32, "an integer from 0 to 2^32 - 1"),
    "special_tokens": (_is_special_tokens, "an object of strings or null"),
    "quantization": (_is_quantization, "an object with quant_type, bits (0-255), symmetric and perhaps block_size"),
    "sharding": (_is_sharding, "an object with shard_count, shard_index, total_size and perhaps pattern"),
}


def _state(value: Any) -> str:
    return "null" if value is None else _shown(value)


def _shown(value: Any) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 60 else shown[:60] + '...'}"
