"""A tokenizer as GGUF metadata: the reverse of `from_gguf.py`, in the order llama.cpp's converter writes the keys."""

from __future__ import annotations

import logging
from typing import Any

from apr.tokenizer import pre as pre_table
from apr.tokenizer.spec import TokenizerSpec
from apr.tokenizer.stop import stop_ids
from apr.tokenizer.tables import as_tables

logger = logging.getLogger(__name__)


def to_gguf(spec: TokenizerSpec) -> dict[str, Any]:
    """`tokenizer.*` keys and plain values: token types are ints, scores floats.

    Raises UnsupportedError for a tokenizer that GGUF cannot hold (see `tables.py`). GGUF has no word for a normalisation: a warning says
    so when one is lost.
    """
    tables = as_tables(spec)
    if tables.normalization != "none":
        logger.warning(
            "GGUF cannot say that text is normalised to %s first; readers will not do it", tables.normalization.upper()
        )
    keys: dict[str, Any] = {
        "model": "llama" if tables.kind == "spm" else "gpt2",
        "pre": "default" if tables.kind == "spm" else (tables.pre or "default"),
        "tokens": list(tables.tokens),
        "token_type": [int(kind) for kind in tables.token_types],
    }
    if tables.kind == "spm":
        keys["scores"] = [float(score) for score in tables.scores]
        keys["add_space_prefix"] = tables.add_space_prefix
    else:
        pre_table.family(tables.pre)
        keys["merges"] = list(tables.merges)
    ids = {
        "bos_token_id": tables.bos_token_id,
        "eos_token_id": tables.eos_token_id,
        "unknown_token_id": tables.unk_token_id,
        "padding_token_id": tables.pad_token_id,
        **turn_ids(tables),
    }
    keys |= {name: token_id for name, token_id in ids.items() if token_id is not None}
    keys |= {"add_bos_token": tables.add_bos, "add_eos_token": tables.add_eos}
    named = {f"tokenizer.ggml.{name}": value for name, value in keys.items()}
    return named | ({"tokenizer.chat_template": tables.chat_template} if tables.chat_template is not None else {})


def turn_ids(spec: TokenizerSpec) -> dict[str, int]:
    """Stop ids that a reader would not find by the text of the token: at most two, the keys that GGUF has for them."""
    found = stop_ids(spec.tokens, spec.token_types, (spec.eos_token_id,))
    hidden = [token_id for token_id in spec.stop_token_ids if token_id not in found]
    if len(hidden) > 2:
        logger.warning("GGUF has room for two more stop ids; %s are left out", hidden[2:])
    return dict(zip(("eot_token_id", "eom_token_id"), hidden, strict=False))
