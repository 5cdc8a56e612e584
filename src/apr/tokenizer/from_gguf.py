"""A tokenizer from GGUF metadata: the `tokenizer.ggml.*` keys.

GGUF does not say whether text was normalised before it was cut; `normalization` is "none", as in llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from apr.errors import TokenizerError, UnsupportedError
from apr.formats._gguf_arrays import NumberArray, StringArray
from apr.tokenizer import pre as pre_table
from apr.tokenizer._strings import Strings
from apr.tokenizer.spec import TokenizerSpec, TokenType
from apr.tokenizer.stop import stop_ids

_KINDS = ("gpt2", "llama")
_KEY = "tokenizer.ggml."

# llama.cpp's ids for a SentencePiece vocabulary whose file names none: unk 0, bos 1, eos 2
_SPM_IDS = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}


def spec_from_gguf(metadata: Mapping[str, Any]) -> TokenizerSpec:
    """Read the tokenizer of a GGUF file from its metadata.

    metadata:  GGUF keys as the file has them; arrays as sequences
    Raises     TokenizerError for missing or inconsistent tables; UnsupportedError for a tokenizer model or a pre-tokenizer that is
               not done here, and for a byte-level vocabulary that names no pre-tokenizer (or `default`)
    """
    name = _text(metadata, "pre") or ""
    if _model(metadata) == "gpt2" and name in ("", "default"):
        raise UnsupportedError(
            f"tokenizer.ggml.pre is {name or 'missing'}; nobody knows how this model cuts text into words, and a guess gives other token ids "
            "than it was trained on; convert it again from its original with a current converter, or allow an unknown pre-tokenizer",
            known=pre_table.names(),
        )
    return _read(metadata, name)


def spec_from_gguf_with_unknown_pre(metadata: Mapping[str, Any]) -> TokenizerSpec:
    """As `spec_from_gguf`, but a missing pre-tokenizer is taken as llama.cpp's fallback. Its ids must not be relied on."""
    return _read(metadata, _text(metadata, "pre") or ("default" if _model(metadata) == "gpt2" else ""))


def _model(metadata: Mapping[str, Any]) -> str:
    model = _text(metadata, "model")
    if model is None:
        raise TokenizerError("the file has no tokenizer.ggml.model; expected a tokenizer; take a complete model file")
    if model not in _KINDS:
        raise UnsupportedError(f"tokenizer model {model!r} (tokenizer.ggml.model) is not done here", known=_KINDS)
    return model


def _read(metadata: Mapping[str, Any], name: str) -> TokenizerSpec:
    is_spm = _model(metadata) == "llama"
    tokens = _named_tokens(_list(metadata, "tokens"))
    types = _integers(metadata, "token_type", len(tokens))
    merges = _list(metadata, "merges") if not is_spm else []
    if not is_spm:
        if not merges:
            raise TokenizerError(
                "the file has no tokenizer.ggml.merges; byte-level BPE needs them; convert the model again"
            )
        pre_table.family(name)
    ids = {key: _token_id(metadata, key, len(tokens), _SPM_IDS.get(key) if is_spm else None) for key in _ID_KEYS}
    implied_bos = is_spm or pre_table.rules(name).add_bos
    return TokenizerSpec(
        kind="spm" if is_spm else "bpe",
        tokens=tokens,
        token_types=types,
        merges=merges,
        scores=_floats(metadata, "scores") if is_spm else (),
        pre=name,
        add_bos=_flag(metadata, "add_bos_token", implied_bos and ids["bos_token_id"] is not None),
        add_eos=_flag(metadata, "add_eos_token", False),
        add_space_prefix=_flag(metadata, "add_space_prefix", True) if is_spm else False,
        bos_token_id=ids["bos_token_id"],
        eos_token_id=ids["eos_token_id"],
        unk_token_id=ids["unknown_token_id"],
        pad_token_id=ids["padding_token_id"],
        stop_token_ids=stop_ids(tokens, types, (ids["eos_token_id"], ids["eot_token_id"], ids["eom_token_id"])),
        chat_template=_template(metadata),
    )


_ID_KEYS = ("bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id", "eot_token_id", "eom_token_id")


def _named_tokens(tokens: Sequence[str]) -> Sequence[str]:
    """An empty entry gets the name that llama.cpp gives it, so that entries stay distinct."""
    if isinstance(tokens, Strings) and tokens.lengths.all():
        return tokens
    return [token or f"[EMPTY_{i}]" for i, token in enumerate(tokens)] if "" in tokens else tokens


def _list(metadata: Mapping[str, Any], key: str) -> Sequence[str]:
    value = metadata.get(_KEY + key, ())
    if isinstance(value, StringArray):
        return Strings.of(value)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TokenizerError(f"{_KEY}{key} is a {type(value).__name__}; expected an array; the file is damaged")
    items = list(value)
    if not all(isinstance(item, str) for item in items):
        raise TokenizerError(f"{_KEY}{key} holds something that is not a string; the file is damaged")
    return items


def _integers(metadata: Mapping[str, Any], key: str, n_tokens: int) -> Sequence[int]:
    """Token types: all normal where the file has none, as llama.cpp takes it."""
    value = metadata.get(_KEY + key)
    if value is None:
        return [int(TokenType.NORMAL)] * n_tokens
    if isinstance(value, NumberArray) and "int" in value.kind:
        return cast("Sequence[int]", value)
    return [int(item) for item in value]


def _floats(metadata: Mapping[str, Any], key: str) -> Sequence[float]:
    value = metadata.get(_KEY + key)
    if value is None:
        raise TokenizerError(
            f"the file has no {_KEY}{key}; a SentencePiece vocabulary needs them; convert the model again"
        )
    return [float(item) for item in value]


def _token_id(metadata: Mapping[str, Any], key: str, n_tokens: int, default: int | None) -> int | None:
    value = metadata.get(_KEY + key)
    if value is None:
        return default if default is not None and default < n_tokens else None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TokenizerError(f"{_KEY}{key} is {value!r}; expected a token id; the file is damaged")
    return value


def _flag(metadata: Mapping[str, Any], key: str, default: bool) -> bool:
    value = metadata.get(_KEY + key, default)
    if not isinstance(value, bool):
        raise TokenizerError(f"{_KEY}{key} is {value!r}; expected true or false; the file is damaged")
    return value


def _text(metadata: Mapping[str, Any], key: str) -> str | None:
    value = metadata.get(_KEY + key)
    if value is not None and not isinstance(value, str):
        raise TokenizerError(f"{_KEY}{key} is a {type(value).__name__}; expected a string; the file is damaged")
    return value


def _template(metadata: Mapping[str, Any]) -> str | None:
    value = metadata.get("tokenizer.chat_template")
    return value if isinstance(value, str) else None
