"""A tokenizer from the metadata of an `.apr` file: the `tokenizer.*` tables.

Files of the SafeTensors importer have no token types; then the shape of a token decides, as upstream readers do it: `<|...|>` and short
`<lower_case>` names are control tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from apr.errors import TokenizerError, UnsupportedError
from apr.tokenizer import from_gguf
from apr.tokenizer._spm import byte_of
from apr.tokenizer.spec import TokenizerSpec, TokenType

_SPECIAL_SHAPE = re.compile(r"<\|.*\|>|</?[a-z_]{1,18}>", re.DOTALL)  # at most 20 characters with the brackets
_GGUF_MODEL = {"gpt2": "gpt2", "bpe": "gpt2", "llama": "llama", "spm": "llama", "sentencepiece": "llama"}

_SAME_VALUE = {  # .apr key -> GGUF key
    "tokenizer.merges": "merges",
    "tokenizer.scores": "scores",
    "tokenizer.bos_token_id": "bos_token_id",
    "tokenizer.eos_token_id": "eos_token_id",
    "tokenizer.unknown_token_id": "unknown_token_id",
    "tokenizer.padding_token_id": "padding_token_id",
    "tokenizer.eot_token_id": "eot_token_id",
    "tokenizer.eom_token_id": "eom_token_id",
    "tokenizer.add_bos_token": "add_bos_token",
    "tokenizer.add_eos_token": "add_eos_token",
    "tokenizer.add_space_prefix": "add_space_prefix",
    "tokenizer.pre_type": "pre",
}


def spec_from_apr(metadata: Mapping[str, Any]) -> TokenizerSpec:
    """Read the tokenizer of an `.apr` file from its metadata.

    Raises TokenizerError for missing or inconsistent tables; UnsupportedError as `spec_from_gguf`.
    """
    tokens = metadata.get("tokenizer.vocabulary")
    if not isinstance(tokens, Sequence) or isinstance(tokens, str) or not tokens:
        raise TokenizerError(
            "the file has no tokenizer.vocabulary; expected an array of tokens; convert the model again with its tokenizer"
        )
    keys: dict[str, Any] = {
        "tokens": tokens,
        "token_type": metadata.get("tokenizer.token_type") or _guess_types(tokens),
    }
    keys |= {name: metadata[key] for key, name in _SAME_VALUE.items() if metadata.get(key) is not None}
    keys["model"] = _model(metadata, has_merges=bool(keys.get("merges")))
    if keys["model"] == "gpt2":
        keys.pop("scores", None)
    gguf = {f"tokenizer.ggml.{name}": value for name, value in keys.items()}
    template = metadata.get("tokenizer.chat_template") or metadata.get("chat_template")
    spec = from_gguf.spec_from_gguf(gguf | {"tokenizer.chat_template": template})
    return _with_normalization(spec, metadata.get("tokenizer.normalization", "none"))


def _model(metadata: Mapping[str, Any], *, has_merges: bool) -> str:
    stated = metadata.get("tokenizer.model_type") or metadata.get("tokenizer.model")
    if stated is None:
        return "gpt2" if has_merges else "llama"
    try:
        return _GGUF_MODEL[str(stated).lower()]
    except KeyError:
        raise UnsupportedError(f"tokenizer.model_type {stated!r} is not done here", known=sorted(_GGUF_MODEL)) from None


def _guess_types(tokens: Sequence[str]) -> list[int]:
    def kind(token: str) -> TokenType:
        if byte_of(token) is not None:
            return TokenType.BYTE
        return TokenType.CONTROL if _SPECIAL_SHAPE.fullmatch(token) else TokenType.NORMAL

    return [int(kind(token)) for token in tokens]


def _with_normalization(spec: TokenizerSpec, value: object) -> TokenizerSpec:
    if value == "nfc":
        return replace(spec, normalization="nfc")
    if value != "none":
        raise UnsupportedError(f"tokenizer.normalization {value!r} is not done here", known=("none", "nfc"))
    return spec
