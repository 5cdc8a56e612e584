"""SentencePiece-style BPE from a vocabulary with scores: which pairs merge, and in which order.

SentencePiece joins, again and again, the adjacent pair whose result has the highest score, the leftmost first. The library wants a
list of pairs in order of rank; it is every split of each token into two entries, ordered by the score of the result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from apr.tokenizer.spec import TokenizerSpec, TokenType

SPACE = "▁"  # U+2581, which SentencePiece writes for a space
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")

# SentencePiece never builds a control or byte piece from text; llama.cpp may ("<s" + ">"), which would let user text forge them
_RESULTS = frozenset({TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED, TokenType.UNDEFINED})


def byte_of(token: str) -> int | None:
    """The byte that a `<0xE2>` token stands for; None for any other token."""
    match = _BYTE_TOKEN.fullmatch(token)
    return int(match.group(1), 16) if match else None


def derive_merges(tokens: Sequence[str], token_types: Sequence[int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Pairs in order of rank: by the result's score, highest first, then by its id, then the longest left part first.

    The longest left part comes first so that runs of one character join from the left, as SentencePiece joins them.
    """
    tokens, token_types = list(tokens), list(token_types)  # a file's are decoded at each access
    parts = {token for token, kind in zip(tokens, token_types, strict=True) if kind in _RESULTS}
    order = sorted(range(len(tokens)), key=lambda i: -scores[i])  # stable: equal scores stay in order of id
    return [
        (token[:cut], token[cut:])
        for token in (tokens[i] for i in order if token_types[i] in _RESULTS)
        for cut in range(len(token) - 1, 0, -1)
        if token[:cut] in parts and token[cut:] in parts
    ]


def scores_of_merges(
    tokens: Sequence[str], token_types: Sequence[int], merges: Sequence[tuple[str, str]]
) -> list[float] | None:
    """Scores that `derive_merges` turns back into `merges`, up to the order of splits of one token; None if no scores do.

    The n-th result to appear scores -n; entries that no merge builds come after all of them.
    """
    rank: dict[str, int] = {}
    for left, right in merges:
        rank.setdefault(left + right, len(rank))
    scores = [-float(rank.get(token, len(rank) + i)) for i, token in enumerate(tokens)]
    derived = derive_merges(tokens, token_types, scores)
    if set(derived) != set(merges):
        return None
    position = [rank[left + right] for left, right in merges]
    return scores if position == sorted(position) else None


def piece(spec: TokenizerSpec, token_id: int) -> bytes:
    """UTF-8 bytes of one entry of a SentencePiece vocabulary; one byte for a byte token."""
    token, kind = spec.tokens[token_id], spec.token_types[token_id]
    if kind == TokenType.BYTE:
        value = byte_of(token)
        if value is not None:
            return bytes([value])
    if kind in (TokenType.CONTROL, TokenType.UNKNOWN):
        return token.encode("utf-8", "surrogateescape")
    return token.replace(SPACE, " ").encode("utf-8", "surrogateescape")
