"""The tokenizer fits the embedding, and its special ids are what they are called."""

from __future__ import annotations

from collections.abc import Iterator

from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate
from apr.tokenizer.spec import TokenizerSpec, TokenType


@gate(
    severity="P0",
    profiles=("file",),
    rationale="An id beyond the embedding crashes or reads other memory; a special id of another model never stops or starts a turn.",
    source="ship-two requirement: tokenizer size <= model vocabulary, special ids decode to their strings",
)
def check(judged: Judged) -> Iterator[Finding]:
    """Token count against embedding rows; end-of-text and stop ids exist and are control tokens."""
    spec, rows = judged.tokenizer_spec, judged.checkpoint.config.vocab_size
    n_tokens = len(spec.tokens)
    if n_tokens > rows:
        yield Finding("fail", "too-many-tokens", f"{n_tokens} tokens for {rows} rows of the embedding")
    elif n_tokens < rows:
        yield Finding("pass", "padded", f"{n_tokens} tokens for {rows} rows of the embedding: the rest is padding")
    if spec.eos_token_id is None and not spec.stop_token_ids:
        yield Finding(
            "fail", "no-stop", "no end-of-text id: generation would never stop by itself", {"key": "eos_token_id"}
        )
    for name, token_id in _named_ids(spec):
        if spec.token_types[token_id] == TokenType.NORMAL:
            message = f"{name} {token_id} is {spec.tokens[token_id]!r}, an ordinary token"
            yield Finding("fail", "ordinary-special", message, {"key": name, "token_id": token_id})
    yield Finding("pass", "vocabulary", f"{n_tokens} tokens, {rows} rows, stop ids {list(spec.stop_token_ids)}")


def _named_ids(spec: TokenizerSpec) -> Iterator[tuple[str, int]]:
    for name in ("bos_token_id", "eos_token_id"):
        token_id = getattr(spec, name)
        if token_id is not None:
            yield name, token_id
    yield from (("stop_token_id", token_id) for token_id in spec.stop_token_ids if token_id != spec.eos_token_id)
