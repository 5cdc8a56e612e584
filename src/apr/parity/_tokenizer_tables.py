"""Two tokenizers' tables under one spelling, and texts that show whether a difference between them matters.

A difference that no text can show (padding, a merge that never happens, two names of one split rule) is dead. So each
kind of difference is put alone into the reference's tables, and texts made for it are encoded both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from apr.errors import TokenizerError, UnsupportedError
from apr.parity._batteries import TEXTS
from apr.tokenizer import pre
from apr.tokenizer.byte_alphabet import to_bytes
from apr.tokenizer.spec import HIDDEN_TYPES, TokenizerSpec, TokenType
from apr.tokenizer.tables import as_tables
from apr.tokenizer.tokenizer import Tokenizer

_MERGES_TRIED = 12
_CONTAINING = 4  # longer entries tried for each merge: the merge may show only on the way to them


@dataclass(frozen=True, slots=True)
class Witness:
    """A text that two tokenizers encode differently; no ids where one of them cannot be made at all."""

    text: str
    reference_ids: tuple[int, ...]
    candidate_ids: tuple[int, ...]


@dataclass(frozen=True)
class Tables:
    """Both tokenizers, as tables if both can be: a tokenizer.json whose rules have no name elsewhere stays what it is."""

    reference: TokenizerSpec
    candidate: TokenizerSpec

    @classmethod
    def of(cls, reference: TokenizerSpec, candidate: TokenizerSpec) -> Tables:
        """The two in the same form."""
        try:
            return cls(as_tables(reference), as_tables(candidate))
        except UnsupportedError:
            return cls(reference, candidate)

    @property
    def are_alike(self) -> bool:
        """Whether both are tables of one kind, so that a part of one can stand in the other."""
        return self.reference.kind == self.candidate.kind and self.reference.kind != "hf"

    def only(self, **parts: Any) -> TokenizerSpec:
        """The reference's tables with these parts of the candidate's; where that cannot be, the candidate itself."""
        return replace(self.reference, **parts) if self.are_alike else self.candidate

    def witness(self, altered: TokenizerSpec, texts: Iterable[str], *, control: bool = False) -> Witness | None:
        """The first text that `altered` encodes otherwise than the reference; None if none does.

        control:  whether control tokens in the texts count
        """
        reference = Tokenizer(self.reference)
        try:
            candidate = Tokenizer(altered)
        except (TokenizerError, UnsupportedError):
            return Witness("", (), ())
        for text in texts:
            mine, theirs = (_ids(tokenizer, text, control=control) for tokenizer in (reference, candidate))
            if mine != theirs:
                return Witness(text, mine, theirs)
        return None


def _ids(tokenizer: Tokenizer, text: str, *, control: bool) -> tuple[int, ...]:
    try:
        return tuple(tokenizer.encode_control(text) if control else tokenizer.encode(text))
    except TokenizerError:  # text that becomes a control token is refused
        return ()


def role(spec: TokenizerSpec, token_id: int) -> str:
    """What a token's type makes of it: found as control, found as text, a byte, or an entry like any other."""
    kind = spec.token_types[token_id]
    if kind in HIDDEN_TYPES:
        return "control"
    if kind == TokenType.USER_DEFINED:
        return "user-defined"
    return "byte" if kind == TokenType.BYTE and spec.kind != "bpe" else "ordinary"


def is_unused(spec: TokenizerSpec, token_id: int) -> bool:
    """Whether an entry is there for the embedding's size only."""
    return spec.token_types[token_id] == TokenType.UNUSED


def family(spec: TokenizerSpec) -> str | None:
    """The split rule's family; None where it has no name."""
    if spec.kind == "hf" and not spec.pre:
        return None
    return pre.family(spec.pre) if spec.pre and spec.kind != "spm" else ""


def first_difference(reference: Sequence[str], candidate: Sequence[str]) -> int | None:
    """The first place where two lists differ, the end of the shorter one included."""
    if len(reference) == len(candidate) and reference == candidate:
        return None
    pairs = zip(reference, candidate, strict=False)
    shorter = min(len(reference), len(candidate))
    return next((i for i, (mine, theirs) in enumerate(pairs) if mine != theirs), shorter)


def texts_for_merges(tables: Tables) -> Iterator[str]:
    """Texts on which merges that differ can show: what they make, and longer entries made of that."""
    mine, theirs = list(tables.reference.merges), list(tables.candidate.merges)
    lost, new = set(mine) - set(theirs), set(theirs) - set(mine)
    moved = (merge for merge, other in zip(mine, theirs, strict=False) if merge != other)
    chosen = [
        *islice((merge for merge in mine if merge in lost), _MERGES_TRIED),
        *islice((merge for merge in theirs if merge in new), _MERGES_TRIED),
        *islice(moved, _MERGES_TRIED),
    ]
    tokens = list(tables.reference.tokens)
    for merge in dict.fromkeys(chosen):
        made = merge.replace(" ", "", 1)
        yield spelled(made)
        longer = (token for token in tokens if made in token and token != made)
        yield from (spelled(token) for token in islice(longer, _CONTAINING))
    yield from TEXTS


def texts_for_tokens(spec: TokenizerSpec, token_ids: Iterable[int]) -> Iterator[str]:
    """Texts in which these tokens' names stand alone and between letters."""
    for token_id in token_ids:
        name = spec.tokens[token_id]
        text = name if spec.token_types[token_id] in (*HIDDEN_TYPES, TokenType.USER_DEFINED) else spelled(name)
        try:
            text.encode()
        except UnicodeEncodeError:  # a piece of a character: no text holds it
            continue
        yield text
        yield f"a{text}b"


def spelled(token: str) -> str:
    """The text of a byte-level entry; what is not a whole character is left out."""
    try:
        return to_bytes(token).decode("utf-8", "ignore")
    except (KeyError, ValueError):
        return token.encode("utf-8", "ignore").decode()
