"""A tokenizer with nothing to compare it with: special ids that are special, and what its family was published with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apr.engines._subject import Subject
from apr.parity import _families
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._tokenizer_tables import family
from apr.tokenizer import pre
from apr.tokenizer.spec import TokenizerSpec, TokenType

LINK = "tokenizer"
_MOST_UNMADE = 0.05  # whole vocabularies have none, or a few that were added by hand


def judge(subject: Subject) -> LinkResult:
    """The link's verdict on one tokenizer that can be read. `cannot_tell` for a vocabulary that is in no table."""
    spec = subject.spec
    known = _families.known_tokenizer(spec, vocab_size=subject.config.vocab_size)
    measure: dict[str, Any] = {
        "n_tokens": len(spec.tokens),
        "n_merges": len(spec.merges),
        "kind": spec.kind,
        "published": None if known is None else known.name,
    }
    findings = [*_unreachable(spec), *_special_ids(spec)]
    if known is not None:
        findings = [*_not_as_published(spec, known), *findings]
    if findings:
        return different(LINK, findings, measure)
    if known is None:
        reason = (
            f"the tables fit together ({len(spec.tokens)} tokens); the vocabulary is none of the published ones that are "
            f"known here, so whether its split rule {spec.pre or spec.kind!r} is the one it was trained with is not known; its original would tell"
        )
        return undecided(LINK, "cannot_tell", reason, measure)
    return same(LINK, f"the tokenizer is that of {known.name}, split rule and BOS rule included", measure)


def _unreachable(spec: TokenizerSpec) -> Iterator[Finding]:
    """Entries of a byte-level vocabulary that no merge makes, if there are many: merges were lost."""
    if spec.kind != "bpe" or pre.rules(spec.pre).ignore_merges:
        return
    made = {merge.replace(" ", "", 1) for merge in spec.merges}
    kinds = zip(spec.tokens, spec.token_types, strict=True)
    joined = [token for token, kind in kinds if kind == TokenType.NORMAL and len(token) > 1]
    lost = [token for token in joined if token not in made]
    if len(lost) > _MOST_UNMADE * len(joined):
        sentence = f"no merge makes {len(lost)} of {len(joined)} entries, such as {lost[0]!r}: merges were lost"
        yield Finding("tokenizer.merges", sentence, {"n_lost": len(lost), "token_id": spec.tokens.index(lost[0])})


def _special_ids(spec: TokenizerSpec) -> Iterator[Finding]:
    """BOS and EOS that are put around a text, or that a template writes, and are ordinary tokens."""
    for name in ("bos", "eos"):
        key = f"{name}_token_id"
        token_id = getattr(spec, key)
        is_used = getattr(spec, f"add_{name}") or name == "eos" or f"{name}_token" in (spec.chat_template or "")
        if token_id is not None and is_used and spec.token_types[token_id] in (TokenType.NORMAL, TokenType.UNUSED):
            text = spec.tokens[token_id]
            where = {"key": key, "token_id": token_id, "token": text}
            yield Finding("tokenizer.special", f"{key} is {token_id} ({text!r}), an ordinary token", where)


def _not_as_published(spec: TokenizerSpec, known: _families.KnownTokenizer) -> Iterator[Finding]:
    for token_id, text in _families.wrong_markers(spec, known).items():
        found = spec.tokens[token_id] if token_id < len(spec.tokens) else None
        where = {"token_id": token_id, "reference": text, "candidate": found, "published": known.name}
        yield Finding("tokenizer.special", f"token {token_id} is {found!r}; {known.name} has {text!r} there", where)
    for token_id, text in known.markers.items():
        is_there = token_id < len(spec.tokens) and spec.tokens[token_id] == text
        if is_there and spec.token_types[token_id] not in (
            TokenType.CONTROL,
            TokenType.UNKNOWN,
            TokenType.USER_DEFINED,
        ):
            where = {"token_id": token_id, "token": text, "published": known.name}
            yield Finding(
                "tokenizer.special", f"token {token_id} ({text!r}) is an ordinary token, not a control token", where
            )
    found_family = family(spec)
    if found_family is not None and found_family != known.pre:
        where = {"key": "tokenizer.ggml.pre", "reference": known.pre, "candidate": spec.pre, "published": known.name}
        sentence = f"text is cut into words by the rule {spec.pre!r}; {known.name} was published with {known.pre!r}"
        yield Finding("tokenizer.pre", sentence, where)
    if known.add_bos is not None and spec.add_bos != known.add_bos:
        does = "is put before every text" if spec.add_bos else "is not put before a text"
        where = {"key": "add_bos_token", "reference": known.add_bos, "candidate": spec.add_bos, "published": known.name}
        sentence = f"the BOS token {does}; {known.name} was published {'with' if known.add_bos else 'without'} it"
        yield Finding("tokenizer.bos", sentence, where)
