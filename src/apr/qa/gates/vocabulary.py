"""The tokenizer fits the embedding, and its special ids are what they are called."""

from __future__ import annotations

from collections.abc import Iterator

from apr.parity import _single_tokenizer
from apr.qa import _from_links, _vocabulary_order
from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate
from apr.tokenizer.spec import HIDDEN_TYPES, TokenizerSpec, TokenType, ids_of_type, is_padding

# rows that no token uses: published models have at most 1.8 % (Phi-2), added to reach a multiple of 64 or 128
MOST_PADDING = 0.1
PADDING_STEP = 64


@gate(
    severity="P0",
    profiles=("file", "smoke", "release"),
    rationale="An id beyond the embedding crashes or reads other memory; a special id of another model never stops or starts a turn.",
    source="ship-two requirement: tokenizer size <= model vocabulary, special ids decode to their strings",
)
def check(judged: Judged) -> Iterator[Finding]:
    """Token count against embedding rows; special ids exist, are special, and read and write their own text."""
    spec, rows = judged.tokenizer_spec, judged.checkpoint.config.vocab_size
    yield from _sizes(spec, rows)
    if spec.eos_token_id is None and not spec.stop_token_ids:
        message = "no end-of-text id: generation would never stop by itself"
        yield Finding("fail", "no-stop", message, {"key": "eos_token_id"})
    ordinary = set()
    for name, token_id in _named_ids(spec):
        if spec.token_types[token_id] in (TokenType.NORMAL, TokenType.UNUSED, TokenType.BYTE):
            ordinary.add(token_id)
            message = f"{name} {token_id} is {spec.tokens[token_id]!r}, an ordinary token"
            yield Finding("fail", "ordinary-special", message, {"key": name, "token_id": token_id})
    result = _single_tokenizer.judge(judged.model)
    for finding in _from_links.failures(result):
        if finding.where.get("token_id") not in ordinary:
            yield finding
    yield from _order(spec, result.measure.get("published"))
    n_special = 0
    for found in _special(judged, spec):
        n_special += 1
        if found is not None:
            yield found
    published = result.measure.get("published")
    measure = {"n_tokens": len(spec.tokens), "rows": rows, "n_special": n_special, "published": published}
    message = f"{len(spec.tokens)} tokens, {rows} rows; {n_special} special ids read and write their own text; {result.sentence}"
    yield Finding("pass", "vocabulary", message, measure=measure)


def _sizes(spec: TokenizerSpec, rows: int) -> Iterator[Finding]:
    n_tokens = len(spec.tokens)
    unused = ids_of_type(spec, TokenType.UNUSED)
    n_used = n_tokens - sum(is_padding(spec, i) for i in unused)
    if n_tokens > rows:
        yield Finding("fail", "too-many-tokens", f"{n_tokens} tokens for {rows} rows of the embedding")
        return
    n_padding = rows - n_used
    measure = {"n_used": n_used, "n_padding": n_padding}
    if n_padding > max(PADDING_STEP, MOST_PADDING * rows):
        message = (
            f"{n_used} tokens for {rows} rows of the embedding: {n_padding / rows:.0%} of the rows have none; "
            "models are padded by a few percent, so the tokenizer is cut or of another model"
        )
        yield Finding("fail", "too-few-tokens", message, measure=measure)
    elif n_padding:
        yield Finding(
            "pass", "padded", f"{n_used} tokens for {rows} rows of the embedding: the rest is padding", measure=measure
        )


def _order(spec: TokenizerSpec, published: str | None) -> Iterator[Finding]:
    found = _vocabulary_order.disorder(spec)
    if found is None:
        return
    token = spec.tokens[found.token_id]
    message = (
        f"token {found.token_id} ({token!r}) is out of order: ids rise with the {found.of} in all but {found.n} of "
        f"{found.n_all} places, so entries or merges were exchanged"
    )
    where = {"token_id": found.token_id, "token": token}
    measure = {"n_out_of_order": found.n, "n": found.n_all}
    # a published vocabulary is known to be in order; of another it is only what trainers do
    yield Finding("undecided" if published is None else "fail", "out-of-order", message, where, measure)


def _named_ids(spec: TokenizerSpec) -> Iterator[tuple[str, int]]:
    for name in ("bos_token_id", "eos_token_id"):
        token_id = getattr(spec, name)
        if token_id is not None:
            yield name, token_id
    yield from (("stop_token_id", token_id) for token_id in spec.stop_token_ids if token_id != spec.eos_token_id)


def _special(judged: Judged, spec: TokenizerSpec) -> Iterator[Finding | None]:
    """Each special id, as text and back through the tokenizer that `apr run` uses; None for one that is right."""
    tokenizer = judged.model.tokenizer
    for token_id in ids_of_type(spec, *HIDDEN_TYPES, TokenType.USER_DEFINED):
        text = spec.tokens[token_id]
        back, ids = tokenizer.decode([token_id]), tokenizer.encode_control(text)
        where = {"token_id": token_id, "token": text}
        if back.strip() != text.strip() and back != text.replace("▁", " "):
            yield Finding("fail", "decodes-otherwise", f"token {token_id} is {text!r} and decodes to {back!r}", where)
        elif text.strip() and token_id not in ids:
            yield Finding("fail", "encodes-otherwise", f"{text!r} is token {token_id} and becomes {ids[:8]}", where)
        else:
            yield None
