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
from apr.tokenizer._spm import SPACE, derive_merges
from apr.tokenizer.byte_alphabet import to_bytes
from apr.tokenizer.spec import HIDDEN_TYPES, TokenizerSpec, TokenType
from apr.tokenizer.tables import as_tables
from apr.tokenizer.tokenizer import Tokenizer

_JOINS_TRIED = 12
_CUTS_TRIED = 100
_FOR_EACH = 4  # texts of each kind tried for one join


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


def joins(spec: TokenizerSpec) -> list[str]:
    """Pairs that are joined, in order of rank, "left right": the merges, or those that the scores of an spm imply."""
    if spec.kind != "spm":
        return list(spec.merges)
    return [f"{left} {right}" for left, right in derive_merges(spec.tokens, spec.token_types, spec.scores)]


def texts_for_joins(tokens: Sequence[str], reference: Sequence[str], candidate: Sequence[str]) -> Iterator[str]:
    """Texts on which lists of joins that differ can show, and then the battery.

    What a join makes, longer entries made of that, and what it makes overlapping with what another makes: there the
    order decides.
    """
    lost, new = set(reference) - set(candidate), set(candidate) - set(reference)
    rank = {join: i for i, join in enumerate(candidate)}
    distance = {join: abs(rank[join] - i) for i, join in enumerate(reference) if rank.get(join, i) != i}
    moved = sorted(distance, key=lambda join: -distance[join])
    chosen = [
        *islice((join for join in reference if join in lost), _JOINS_TRIED),
        *islice((join for join in candidate if join in new), _JOINS_TRIED),
        *moved[:_JOINS_TRIED],
    ]
    made = [join.replace(" ", "", 1) for join in dict.fromkeys(chosen)]
    all_made = [join.replace(" ", "", 1) for join in reference]
    for piece in made:
        yield spelled(piece)
        longer = (token for token in tokens if piece in token and token != piece)
        behind = (piece + other[1:] for other in all_made if other[0] == piece[-1])
        before = (other[:-1] + piece for other in all_made if other[-1] == piece[0])
        for texts in (longer, behind, before):
            yield from (spelled(text) for text in islice(texts, _FOR_EACH))
    yield from TEXTS


def texts_for_cuts(tables: Tables) -> Iterator[str]:
    """Texts on which two split rules can show: entries that one of them cuts where the other does not.

    A rule that takes whole words before it joins anything shows on entries that nothing makes. Then the battery.
    """
    from tokenizers import Regex, pre_tokenizers

    spec = tables.reference
    mine, theirs = (pre.rules(side.pre) for side in (spec, tables.candidate))
    cutters = [
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated") for regex in rules.regexes])
        for rules in (mine, theirs)
    ]
    made = {join.replace(" ", "", 1) for join in spec.merges} if mine.ignore_merges != theirs.ignore_merges else None
    n_found = 0
    for token, kind in zip(spec.tokens, spec.token_types, strict=True):
        if kind != TokenType.NORMAL or n_found >= _CUTS_TRIED:
            continue
        text = spelled(token)
        pieces = [[piece for piece, _ in cutter.pre_tokenize_str(text)] for cutter in cutters] if text else [[], []]
        if pieces[0] != pieces[1] or (made is not None and len(token) > 1 and token not in made):
            n_found += 1
            yield text
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
    """The text that an entry stands for; what is not a whole character is left out."""
    return to_bytes(token).decode("utf-8", "ignore").replace(SPACE, " ")
