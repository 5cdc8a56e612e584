"""Text comes back from its token ids, character by character."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from apr.errors import TokenizerError
from apr.parity._renderings import offset_of
from apr.qa import _texts
from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate
from apr.tokenizer._hf_json import decoder_style
from apr.tokenizer._spm import SPACE
from apr.tokenizer.byte_alphabet import CHAR_OF_BYTE
from apr.tokenizer.spec import HIDDEN_TYPES, TokenizerSpec, TokenType
from apr.tokenizer.tokenizer import Tokenizer

LEAST_TEXTS = 1000
_SHOWN = 10
# control characters without a use in text; SmolLM's own vocabulary lacks six of them
_UNUSED_CONTROLS = frozenset({*range(0x20), 0x7F} - {9, 10, 11, 12, 13})
# first bytes of UTF-8 for planes 4 to 11, of which Unicode has assigned nothing: SmolLM lacks these too
_UNASSIGNED = {0xF1: range(0x40000, 0x80000), 0xF2: range(0x80000, 0xC0000)}
_PIECES = 400  # of the vocabulary, drawn for texts of its own words


@gate(
    severity="P0",
    profiles=("file", "smoke", "release"),
    rationale="A character that is lost on the way to the ids is a question that the model never sees.",
    source="decode(encode(x)) == x for a lossless tokenizer, modulo its own normaliser",
)
def check(judged: Judged) -> Iterator[Finding]:
    """At least 1,000 texts to ids and back, in one go and streamed; the first character that differs is told."""
    tokenizer, spec = judged.model.tokenizer, judged.tokenizer_spec
    normaliser, absent = _normaliser(spec), _absent_controls(spec)
    n_texts = n_refused = n_tokens = 0
    lost: list[dict[str, Any]] = []
    unknown: list[dict[str, Any]] = []
    unassigned = _absent_planes(spec)
    for made in _texts.texts(_pieces(tokenizer, seed=judged.seed), seed=judged.seed):
        text = made.translate(unassigned)
        n_texts += 1
        try:
            ids = tokenizer.encode(text)
        except TokenizerError:  # a text that could forge a control token; the injection gate counts those
            n_refused += 1
            continue
        n_tokens += len(ids)
        back = tokenizer.decode(ids)
        streamed = _streamed(tokenizer, ids)
        wanted = _wanted(text.translate(absent), spec, normaliser)
        if back not in wanted:
            where = {"text": text[:200], "text_offset": _offset(wanted, back), "decoded": back[:200]}
            (unknown if spec.unk_token_id in ids else lost).append(where)
        elif streamed != tokenizer.decode_text(ids):
            lost.append({"text": text[:200], "text_offset": offset_of(streamed, back), "streamed": streamed[:200]})
    measure: dict[str, Any] = {
        "n_texts": n_texts,
        "n_tokens": n_tokens,
        "n_lost": len(lost),
        "n_unknown": len(unknown),
        "n_refused": n_refused,
    }
    measure["absent_controls"] = sorted(absent)
    assert n_texts >= LEAST_TEXTS, "the texts are fewer than the gate promises"
    yield from _told(lost, "fail", "lost", n_texts, measure)
    yield from _told(unknown, "undecided", "unknown-characters", n_texts, measure)
    if n_refused > n_texts // 100:
        yield Finding("fail", "refused", f"{n_refused} of {n_texts} texts are refused", measure=measure)
    apart = (
        f"; the vocabulary has no token for {len(absent)} control characters that text does not use" if absent else ""
    )
    yield Finding("pass", "comes-back", f"{n_texts} texts looked at, {n_tokens} tokens{apart}", measure=measure)


def _told(
    found: list[dict[str, Any]], status: Any, code: str, n_texts: int, measure: dict[str, Any]
) -> Iterator[Finding]:
    for where in found[:_SHOWN]:
        got: str = where.get("decoded", where.get("streamed", ""))
        message = (
            f"{len(found)} of {n_texts} texts do not come back from their ids: {where['text'][:60]!r} comes back as "
            f"{got[:60]!r}, which differs at character {where['text_offset']}"
        )
        yield Finding(status, code, message, where, measure)


def _pieces(tokenizer: Tokenizer, *, seed: int) -> Sequence[str]:
    """Texts of tokens that a text can be made of; those that are part of a character are left out."""
    spec = tokenizer.spec
    ids = random.Random(seed).sample(range(len(spec.tokens)), k=min(_PIECES * 2, len(spec.tokens)))
    left_out = (*HIDDEN_TYPES, TokenType.UNUSED, TokenType.UNDEFINED)
    pieces = []
    for token_id in ids:
        if spec.token_types[token_id] in left_out:
            continue
        text = tokenizer.text_of(token_id).decode("utf-8", "replace")
        if text and "\ufffd" not in text:
            pieces.append(text)
    return pieces[:_PIECES] or ["a"]


def _streamed(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    stream = tokenizer.stream()
    return "".join(stream.put(token_id) for token_id in ids) + stream.finish()


def _wanted(text: str, spec: TokenizerSpec, normaliser: Any) -> list[str]:
    """What may come back: the text as the tokenizer's own normaliser leaves it."""
    if spec.normalization == "nfc":
        text = unicodedata.normalize("NFC", text)
    wanted = [text]
    if normaliser is not None:
        wanted.append(normaliser.normalize_str(text))
    if spec.kind != "bpe":
        # SentencePiece writes a blank as this sign, and cannot tell the two apart
        plain = [each.replace(SPACE, " ") for each in wanted]
        wanted += [*plain, *(each.removeprefix(" ") for each in plain)]
    return wanted


def _normaliser(spec: TokenizerSpec) -> Any:
    """The normaliser of a tokenizer.json that is run as it is; None if there is none."""
    if spec.json is None:
        return None
    from tokenizers import Tokenizer as LibraryTokenizer

    return LibraryTokenizer.from_str(spec.json).normalizer


def _absent_controls(spec: TokenizerSpec) -> dict[int, None]:
    """Control characters that a byte-level vocabulary has no token for, as a table for `str.translate`."""
    return dict.fromkeys(_absent_bytes(spec) & _UNUSED_CONTROLS)


def _absent_planes(spec: TokenizerSpec) -> dict[int, None]:
    """Code points of planes without a character that a byte-level vocabulary has no token for, as such a table."""
    absent = _absent_bytes(spec) & _UNASSIGNED.keys()
    return dict.fromkeys(code for byte in absent for code in _UNASSIGNED[byte])


def _absent_bytes(spec: TokenizerSpec) -> set[int]:
    is_byte_level = decoder_style(json.loads(spec.json))[0] == "bytes" if spec.json else spec.kind == "bpe"
    if not is_byte_level:
        return set()
    tokens = set(spec.tokens)
    return {byte for byte, char in CHAR_OF_BYTE.items() if char not in tokens}


def _offset(wanted: Sequence[str], back: str) -> int:
    return max(offset_of(each, back) for each in wanted)
