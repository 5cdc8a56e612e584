"""A tokenizer from the side files of a Hugging Face model folder: tokenizer.json is the truth, the others name special tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from apr.errors import TokenizerError
from apr.tokenizer import _hf_json
from apr.tokenizer.spec import TokenizerSpec, TokenType
from apr.tokenizer.stop import stop_ids


def spec_from_hf(documents: Mapping[str, Any], *, vocab_size: int | None = None) -> TokenizerSpec:
    """Read the tokenizer of a model folder.

    documents:   "tokenizer.json" as text; "tokenizer_config.json", "special_tokens_map.json", "generation_config.json" and "config.json" as
                 dicts; "chat_template.jinja" as text; all but the first optional
    vocab_size:  rows of the embedding; the vocabulary is filled up to it with unused `[PAD{id}]` entries
    Raises       TokenizerError for a missing or inconsistent tokenizer.json; UnsupportedError for a model that is neither BPE nor Unigram
    """
    text = documents.get("tokenizer.json")
    if not isinstance(text, str):
        raise TokenizerError(
            "the folder has no tokenizer.json; a tokenizer.model alone is not read; save the tokenizer with transformers first"
        )
    document = _hf_json.parse(text)
    config = _dict(documents, "tokenizer_config.json")
    if _add_missing(document, config.get("added_tokens_decoder")):
        text = json.dumps(document, ensure_ascii=False)
    vocabulary = _hf_json.vocabulary(document)
    tokens, types = vocabulary.tokens, vocabulary.types
    scores = vocabulary.scores
    _pad(tokens, types, scores, vocab_size)
    id_of = {token: token_id for token_id, token in enumerate(tokens)}
    ids = _special_ids(documents, id_of)
    before, after = _hf_json.post_tokens(document)
    add_bos = bool(config.get("add_bos_token", before is not None)) and (ids["bos"] is not None or before is not None)
    add_eos = bool(config.get("add_eos_token", after is not None)) and (ids["eos"] is not None or after is not None)
    return TokenizerSpec(
        kind="hf",
        tokens=tokens,
        token_types=types,
        merges=[f"{left} {right}" for left, right in _hf_json.merges(document)],
        scores=scores,
        pre=_hf_json.byte_level_pre(document) or "",
        add_bos=add_bos,
        add_eos=add_eos,
        add_space_prefix=_hf_json.has_space_normalizer(document) == "prefix",
        bos_token_id=id_of.get(before, ids["bos"]) if add_bos and before else ids["bos"],
        eos_token_id=ids["eos"] if ids["eos"] is not None else id_of.get(after or ""),
        unk_token_id=ids["unk"] if ids["unk"] is not None else vocabulary.unk_token_id,
        pad_token_id=ids["pad"],
        stop_token_ids=stop_ids(tokens, types, [ids["eos"], *_generation_eos(documents)]),
        chat_template=_chat_template(documents),
        normalization=_hf_json.normalization(document),
        json=text,
    )


def _dict(documents: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = documents.get(name)
    return value if isinstance(value, Mapping) else {}


def _add_missing(document: dict[str, Any], decoder: Any) -> bool:
    """Add the added tokens that only tokenizer_config.json has, as transformers does; whether there were any."""
    if not isinstance(decoder, Mapping):
        return False
    added = document.setdefault("added_tokens", [])
    present = {entry["id"] for entry in added}
    missing = [
        {"id": int(i), **entry} for i, entry in decoder.items() if int(i) not in present and isinstance(entry, Mapping)
    ]
    added += sorted(missing, key=lambda entry: int(entry["id"]))
    return bool(missing)


def _pad(tokens: list[str], types: list[int], scores: list[float], vocab_size: int | None) -> None:
    if vocab_size is None:
        return
    if vocab_size < len(tokens):
        raise TokenizerError(
            f"the tokenizer has {len(tokens)} tokens and the embedding {vocab_size} rows; the tokenizer is of another model"
        )
    rows = range(len(tokens), vocab_size)
    if scores:
        scores += [0.0 for _ in rows]
    tokens += [f"[PAD{row}]" for row in rows]
    types += [int(TokenType.UNUSED) for _ in rows]


def _special_ids(documents: Mapping[str, Any], id_of: Mapping[str, int]) -> dict[str, int | None]:
    """bos, eos, unk, pad: by the token's text if a tokenizer file names it, else by the id that the model's configuration names."""
    ids: dict[str, int | None] = {}
    for name in ("bos", "eos", "unk", "pad"):
        text = None
        for file in ("tokenizer_config.json", "special_tokens_map.json"):
            value = _dict(documents, file).get(f"{name}_token")
            text = text or (value.get("content") if isinstance(value, Mapping) else value)
        number = _dict(documents, "config.json").get(f"{name}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        if isinstance(text, str):
            ids[name] = id_of.get(text)
        else:
            ids[name] = number if isinstance(number, int) and 0 <= number < len(id_of) else None
    return ids


def _generation_eos(documents: Mapping[str, Any]) -> list[int]:
    """Every eos id of generation_config.json, else of config.json."""
    for file in ("generation_config.json", "config.json"):
        value = _dict(documents, file).get("eos_token_id")
        if value is not None:
            return [i for i in (value if isinstance(value, list) else [value]) if isinstance(i, int)]
    return []


def _chat_template(documents: Mapping[str, Any]) -> str | None:
    """The template file if there is one, else the configuration's; of several named ones, `default`."""
    value = documents.get("chat_template.jinja") or _dict(documents, "tokenizer_config.json").get("chat_template")
    if isinstance(value, list):
        value = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, Mapping)}
    if isinstance(value, Mapping):
        value = value.get("default")
    return value if isinstance(value, str) else None
