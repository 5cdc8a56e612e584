"""A tokenizer as the side files that transformers reads: tokenizer.json, tokenizer_config.json, special_tokens_map.json."""

from __future__ import annotations

from typing import Any

from apr.tokenizer import _backend
from apr.tokenizer.spec import TokenizerSpec


def to_hf(spec: TokenizerSpec) -> dict[str, Any]:
    """Documents by file name: "tokenizer.json" is text, the others dicts.

    Loaded with transformers' AutoTokenizer they give the ids that `Tokenizer` gives.
    """
    text = spec.json if spec.json is not None else _backend.build_complete(spec).to_str()
    ids = {"bos": spec.bos_token_id, "eos": spec.eos_token_id, "unk": spec.unk_token_id, "pad": spec.pad_token_id}
    special = {f"{name}_token": spec.tokens[token_id] for name, token_id in ids.items() if token_id is not None}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "add_bos_token": spec.add_bos,
        "add_eos_token": spec.add_eos,
        "clean_up_tokenization_spaces": False,
    }
    if spec.chat_template is not None:
        config["chat_template"] = spec.chat_template
    return {"tokenizer.json": text, "tokenizer_config.json": config, "special_tokens_map.json": special}
