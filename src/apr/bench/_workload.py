"""What is measured: prompts of given lengths in tokens, and what a token makes the machine read."""

from __future__ import annotations

import inspect
import textwrap
from collections import Counter
from collections.abc import Sequence

from apr.engines import _prompt
from apr.models._checkpoint import Checkpoint
from apr.tokenizer.tokenizer import Tokenizer

EMBEDDING = "model.embed_tokens.weight"
# where in the text a prompt may begin: one of these gives a text that tokenizes to the length that is wanted
_STARTS = 64


def read_weights(checkpoint: Checkpoint) -> frozenset[str]:
    """The tensors that each token makes the machine read: all but the embedding look-up; a tied one is the head."""
    names = frozenset(checkpoint.expected)
    return names if checkpoint.config.tie_word_embeddings else names - {EMBEDDING}


def bytes_by_codec(checkpoint: Checkpoint) -> dict[str, int]:
    """Bytes of weights that a token reads, as the file encodes them, the largest share first."""
    counts: Counter[str] = Counter()
    for name in read_weights(checkpoint):
        info = checkpoint.tensors[name].info
        counts[info.codec] += info.n_bytes
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def values_by_codec(checkpoint: Checkpoint) -> dict[str, int]:
    """How many weights a token reads, by their encoding in the file."""
    counts: Counter[str] = Counter()
    for name in read_weights(checkpoint):
        info = checkpoint.tensors[name].info
        counts[info.codec] += info.n_elements
    return dict(counts)


def source_text() -> str:
    """A text that everybody who runs Python has: the source of its `textwrap`, prose and code, some five thousand tokens."""
    return inspect.getsource(textwrap)


def prompt_of(tokenizer: Tokenizer, n_tokens: int, *, text: str | None = None) -> str:
    """A text that `apr run --raw` reads as so many tokens; the nearest to it, where no beginning gives that length.

    Cut token by token, and read again: a cut may fall where the tokenizer would not have made one.
    """
    text = source_text() if text is None else text
    ids = tokenizer.encode(text)
    added = len(tokenizer.with_bos([]))
    wanted = max(1, n_tokens - added)
    while len(ids) < wanted + _STARTS:
        ids = ids + ids
    candidates = (tokenizer.decode(ids[start : start + wanted]) for start in range(_STARTS))
    nearest = ""
    for candidate in candidates:
        off = abs(token_count(tokenizer, candidate) - n_tokens)
        if off == 0:
            return candidate
        if not nearest or off < abs(token_count(tokenizer, nearest) - n_tokens):
            nearest = candidate
    return nearest


def prompts(tokenizer: Tokenizer, lengths: Sequence[int]) -> dict[int, str]:
    """A prompt of each length."""
    return {length: prompt_of(tokenizer, length) for length in sorted(set(lengths))}


def token_ids(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """The ids of a raw prompt."""
    return _prompt.of_text(text, tokenizer, None, regime="raw").token_ids


def token_count(tokenizer: Tokenizer, text: str) -> int:
    """How many tokens a raw prompt is."""
    return len(token_ids(tokenizer, text))
