"""A tokenizer as `.apr` metadata: the reverse of `from_apr.py`.

`tokenizer.normalization`, `.add_eos_token`, `.add_space_prefix`, `.unknown_token_id`, `.eot_token_id` and `.eom_token_id` are
keys of ours; upstream readers pass over what they do not know.
"""

from __future__ import annotations

from typing import Any

from apr.tokenizer.spec import TokenizerSpec
from apr.tokenizer.tables import as_tables
from apr.tokenizer.to_gguf import turn_ids


def to_apr(spec: TokenizerSpec) -> dict[str, Any]:
    """`tokenizer.*` keys and plain values, and the chat template in both places where readers look.

    Raises UnsupportedError for a tokenizer that is not tables (see `tables.py`).
    """
    tables = as_tables(spec)
    model = "llama" if tables.kind == "spm" else "gpt2"
    keys: dict[str, Any] = {
        "model_type": model,  # SafeTensors importers write this one and readers look here first
        "model": model,  # GGUF importers write this one
        "vocabulary": list(tables.tokens),
        "vocab_size": len(tables.tokens),
        "token_type": [int(kind) for kind in tables.token_types],
        "merges": list(tables.merges) or None,
        "scores": [float(score) for score in tables.scores] or None,
        "pre_type": tables.pre or None,
        "bos_token_id": tables.bos_token_id,
        "eos_token_id": tables.eos_token_id,
        "unknown_token_id": tables.unk_token_id,
        "padding_token_id": tables.pad_token_id,
        **turn_ids(tables),
        "add_bos_token": tables.add_bos,
        "add_eos_token": tables.add_eos,
        "add_space_prefix": tables.add_space_prefix,
        "normalization": tables.normalization,
        "chat_template": tables.chat_template,
    }
    named = {f"tokenizer.{name}": value for name, value in keys.items() if value is not None}
    return named | ({"chat_template": tables.chat_template} if tables.chat_template is not None else {})
