"""Token ids with nothing to compare them with: text that comes back, and a prompt that begins once."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

from apr.engines._subject import Subject
from apr.errors import TemplateError, TokenizerError
from apr.parity._batteries import CONVERSATIONS, TEXTS
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._renderings import offset_of
from apr.tokenizer._spm import SPACE

LINK = "tokens"


def judge(subject: Subject) -> LinkResult:
    """The link's verdict on one model's ids. `cannot_tell` where the tokenizer gives up text on purpose (an unknown token)."""
    lost: list[tuple[str, str]] = []
    n_tried = n_unknown = 0
    for text in TEXTS:
        came_back = _round_trip(subject, text)
        if came_back is None:
            continue
        n_tried += 1
        ids, back = came_back
        if back != text and (subject.spec.kind == "bpe" or back != text.replace(SPACE, " ")):
            n_unknown += subject.spec.unk_token_id in ids
            lost.append((text, back))
    measure: dict[str, Any] = {
        "n_texts": n_tried,
        "n_different": len(lost),
        "differences": [
            {"text": text, "text_offset": offset_of(text, back), "decoded": back} for text, back in lost[:20]
        ],
    }
    findings = list(_doubled_bos(subject))
    if lost and n_unknown < len(lost):
        text, back = lost[0]
        where = {"text": text, "text_offset": offset_of(text, back), "n_different": len(lost)}
        sentence = f"{len(lost)} of {n_tried} texts do not come back from their ids; the first, {text!r}, comes back as {back!r}"
        findings.insert(0, Finding("tokenizer.vocab", sentence, where))
    if findings:
        return different(LINK, findings, measure)
    if lost:
        reason = f"{len(lost)} of {n_tried} texts hold characters that the vocabulary does not know; its original would tell whether it should"
        return undecided(LINK, "cannot_tell", reason, measure)
    return same(LINK, f"all {n_tried} texts come back from their ids", measure)


def _round_trip(subject: Subject, text: str) -> tuple[list[int], str] | None:
    """The ids without what is put around a text, and the text that they stand for; None for a text that is refused."""
    spec, voice = subject.spec, subject.voice
    if spec.normalization == "nfc" and unicodedata.normalize("NFC", text) != text:
        return None
    try:
        ids = voice.encode(text)
    except TokenizerError:
        return None
    if spec.add_bos and ids[:1] == [spec.bos_token_id]:
        ids = ids[1:]
    if spec.add_eos and ids[-1:] == [spec.eos_token_id]:
        ids = ids[:-1]
    return ids, voice.decode(ids)


def _doubled_bos(subject: Subject) -> Iterator[Finding]:
    bos = subject.spec.bos_token_id
    try:
        text = subject.voice.render(CONVERSATIONS[0].messages)
    except TemplateError:
        return
    if text is None or bos is None:
        return
    ids = subject.voice.encode_rendered(text)
    if ids[:2] == [bos, bos]:
        sentence = f"a prompt begins with BOS ({bos}) twice: the template writes one, and the engine adds another"
        yield Finding("tokenizer.bos", sentence, {"token_id": bos, "position": 1, "reference": 1, "candidate": 2})
