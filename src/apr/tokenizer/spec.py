"""What a tokenizer is, as plain data, whatever file it came from.

Every spec that exists is consistent: the constructor checks lengths, ids and duplicates, so that nobody downstream needs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

from apr.errors import TokenizerError
from apr.formats._gguf_arrays import NumberArray
from apr.tokenizer._strings import Strings

MAX_TOKEN_BYTES = 64 * 1024  # far over any real token; keeps a hostile vocabulary from costing gigabytes
MAX_TOKENS = 8_000_000  # the largest known vocabularies have under 300,000

Normalization = Literal["none", "nfc"]


class TokenType(IntEnum):
    """GGUF's numbering of `tokenizer.ggml.token_type`."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


HIDDEN_TYPES = frozenset(
    {TokenType.UNKNOWN, TokenType.CONTROL}
)  # matched only as control tokens, left out of plain text


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """A tokenizer: vocabulary, merges, split rule, special ids and chat template.

    kind:           "bpe" byte-level BPE (`gpt2` in GGUF), "spm" SentencePiece-style BPE (`llama` in GGUF), "hf" a whole tokenizer.json
    tokens:         [vocab_size] vocabulary entries, index = token id, spelled as the file spells them; bytes that are not UTF-8
                    are lone surrogates (`surrogateescape`)
    token_types:    [vocab_size] `TokenType` values
    merges:         "left right" in order of rank; empty for "spm", whose merges follow from the scores
    scores:         [vocab_size] for "spm", else empty
    pre:            GGUF pre-tokenizer name; "" where none is needed ("spm") or none of ours fits ("hf")
    stop_token_ids: ids that end a turn, sorted; `stop.py` has the rule
    normalization:  "nfc" as the original of some models does, "none" as llama.cpp always does; GGUF cannot say which
    json:           text of tokenizer.json, for kind "hf" only

    Raises TokenizerError when the parts do not fit together.
    """

    kind: Literal["bpe", "spm", "hf"]
    tokens: Sequence[str]
    token_types: Sequence[int]
    merges: Sequence[str] = ()
    scores: Sequence[float] = ()
    pre: str = ""
    add_bos: bool = False
    add_eos: bool = False
    add_space_prefix: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    unk_token_id: int | None = None
    pad_token_id: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    chat_template: str | None = None
    normalization: Normalization = "none"
    json: str | None = None

    def __post_init__(self) -> None:
        _check_tables(self)
        _check_ids(self)
        if (self.kind == "hf") != (self.json is not None):
            raise TokenizerError(
                f"tokenizer kind {self.kind!r} with{'out' if self.json is None else ''} a tokenizer.json"
            )


def ids_of_type(spec: TokenizerSpec, *types: TokenType) -> list[int]:
    """Token ids whose type is one of `types`, ascending."""
    return places_of(spec.token_types, types)


def places_of(token_types: Sequence[int], types: Iterable[TokenType]) -> list[int]:
    """Where in `token_types` one of `types` stands, ascending."""
    wanted = frozenset(int(t) for t in types)
    if isinstance(token_types, NumberArray):
        numbers = token_types.numpy()
        places: list[int] = np.flatnonzero(np.logical_or.reduce([numbers == t for t in wanted])).tolist()
        return places
    return [i for i, token_type in enumerate(token_types) if token_type in wanted]


def is_padding(spec: TokenizerSpec, token_id: int) -> bool:
    """Whether an entry is vocabulary padding: unused, and named `[PAD{id}]` as converters name it."""
    return spec.token_types[token_id] == TokenType.UNUSED and spec.tokens[token_id] == f"[PAD{token_id}]"


def _check_tables(spec: TokenizerSpec) -> None:
    n = len(spec.tokens)
    if not 0 < n <= MAX_TOKENS:
        raise TokenizerError(
            f"the vocabulary has {n} tokens; expected 1 to {MAX_TOKENS}; the file's tokenizer is missing or damaged"
        )
    if len(spec.token_types) != n:
        raise TokenizerError(
            f"{len(spec.token_types)} token types for {n} tokens; expected one each; convert the model again"
        )
    if len(spec.scores) != n and (spec.scores or spec.kind == "spm"):
        raise TokenizerError(f"{len(spec.scores)} scores for {n} tokens; expected one each; convert the model again")
    if isinstance(spec.tokens, Strings):
        longest, has_duplicates = spec.tokens[int(spec.tokens.lengths.argmax())], spec.tokens.has_duplicates
    else:
        longest, has_duplicates = max(spec.tokens, key=len), len(set(spec.tokens)) != n
    if len(longest) > MAX_TOKEN_BYTES // 4 and len(longest.encode("utf-8", "surrogatepass")) > MAX_TOKEN_BYTES:
        raise TokenizerError(
            f"a token of {len(longest)} characters; the cap is {MAX_TOKEN_BYTES} bytes; the file is damaged or hostile"
        )
    if has_duplicates:
        first: dict[str, int] = {}
        for token_id, token in enumerate(spec.tokens):
            if first.setdefault(token, token_id) != token_id:
                raise TokenizerError(
                    f"token {token!r} has ids {first[token]} and {token_id}; expected one id a token; convert the model again"
                )
    bad = _unknown_types(spec.token_types)
    if bad:
        raise TokenizerError(f"token type {min(bad)} is not one of GGUF's (0 to 6); the file is damaged")


def _unknown_types(token_types: Sequence[int]) -> set[int]:
    if isinstance(token_types, NumberArray):
        numbers = token_types.numpy()
        return set(numbers[(numbers < min(TokenType)) | (numbers > max(TokenType))].tolist())
    return set(token_types) - {int(t) for t in TokenType}


def _check_ids(spec: TokenizerSpec) -> None:
    n = len(spec.tokens)
    named = {"bos": spec.bos_token_id, "eos": spec.eos_token_id, "unk": spec.unk_token_id, "pad": spec.pad_token_id}
    named |= {f"stop[{i}]": token_id for i, token_id in enumerate(spec.stop_token_ids)}
    for name, token_id in named.items():
        if token_id is not None and not 0 <= token_id < n:
            raise TokenizerError(
                f"{name} token id {token_id} is outside the vocabulary of {n}; the special ids belong to another model"
            )
    for name, wanted, token_id in (("bos", spec.add_bos, spec.bos_token_id), ("eos", spec.add_eos, spec.eos_token_id)):
        if wanted and token_id is None:
            raise TokenizerError(
                f"add_{name}_token is true and there is no {name}_token_id; set the id or the flag in the file"
            )
