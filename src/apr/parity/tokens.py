"""Link "tokens": the ids that each engine really makes of a text, and of a conversation.

Each side speaks with its own engine's voice, so an engine that cuts text by its own rules, adds a second BOS or leaves
the template out shows here although both files are right. A difference is named by its evidence: what is added at the
ends, what is not recognised, what is cut elsewhere.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from apr.engines._base import Voice
from apr.engines._subject import Subject
from apr.errors import AprError, FormatError, TemplateError, TokenizerError, UnsupportedError
from apr.parity import _single_tokens, _tokenizer_tables
from apr.parity._batteries import CONVERSATIONS, TEXTS
from apr.parity._causes import Cause
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._pair import Pair
from apr.parity._renderings import Case, explained
from apr.tokenizer.spec import HIDDEN_TYPES, TokenizerSpec, TokenType, ids_of_type
from apr.tokenizer.stop import END_OF_TURN

LINK = "tokens"
_READ_ERRORS = (FormatError, UnsupportedError, TokenizerError, TemplateError)
_DIFFERENCES_SHOWN = 20
_IDS_SHOWN = 200
_ENDS = ("bos", "eos")
# of a text in another's ids: fewer occur by chance, and nearly all texts have to agree
_LEAST_INSIDE, _MOST = 4, 0.8


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text as both sides encode it; a refusal is no ids.

    conversation:  whose prompt it is; None for a raw text
    """

    text: str
    reference: tuple[int, ...]
    candidate: tuple[int, ...]
    conversation: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the ids differ."""
        return self.reference != self.candidate

    @property
    def position(self) -> int:
        """The first id that differs."""
        pairs = zip(self.reference, self.candidate, strict=False)
        shorter = min(len(self.reference), len(self.candidate))
        return next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)


def compare(pair: Pair) -> LinkResult:
    """Ids of every text of the battery, and of the reference's renderings of its conversations.

    measure:  "n_texts", "n_different", "differences" (the first few), "n_composed": explained by NFC, "notes"
    """
    try:
        voice, spec = pair.reference.voice, pair.reference.spec
    except _READ_ERRORS as exc:
        return undecided(LINK, "not_comparable", f"the reference cannot make token ids: {exc}")
    try:
        other, its_spec = pair.candidate.voice, pair.candidate.spec
    except _READ_ERRORS as exc:
        return undecided(LINK, "cannot_tell", f"the candidate cannot make token ids: {exc}")
    cases = _renderings(voice, other)
    encoded = [*_texts(voice, other), *_prompts(cases, voice, other)]
    differing = [each for each in encoded if each.differs]
    composed = [each for each in differing if _is_composed(pair, each)]
    disputed = [each for each in differing if each not in composed and _is_disputed(pair, each)]
    left = [each for each in differing if each not in composed and each not in disputed]
    findings = [*_by_evidence(pair, encoded, left, spec, its_spec)]
    if (rendering := explained(cases)) is not None:
        findings.append(_engine_finding(rendering, cases))
    measure: dict[str, Any] = {
        "n_texts": len(encoded),
        "n_conversations": sum(case.reference is not None for case in cases),
        "n_different": len(left),
        "n_composed": len(composed),
        "differences": [_row(pair, each) for each in left[:_DIFFERENCES_SHOWN]],
        "notes": [],
    }
    if composed:
        note = f"{len(composed)} texts differ by composition (NFC), which a GGUF file cannot ask for; composed text gives the same ids"
        measure["notes"].append(note)
    if disputed:
        note = f"{len(disputed)} texts hold an ordinary token named as an end of turn, which one engine takes for a control token"
        measure["notes"].append(note)
    if findings:
        return different(LINK, findings, measure)
    n_prompts = sum(each.conversation is not None for each in encoded)
    return same(LINK, f"the same ids for {len(encoded) - n_prompts} texts and {n_prompts} prompts", measure)


def force(pair: Pair, findings: Sequence[Finding]) -> Subject:
    """The candidate with the reference's tokenizer and template, as we read them."""
    if findings and all(finding.cause.startswith("template.") for finding in findings):
        return pair.candidate.with_template(pair.reference)  # which speaks with our voice, not with the engine's
    return pair.candidate.with_tokenizer(pair.reference).with_template(pair.reference)


def examine(subject: Subject) -> LinkResult:
    """One model by itself: every text comes back from its ids, and a prompt begins with one BOS at most."""
    try:
        subject.voice  # noqa: B018 - made here, so that what fails below is a text
    except _READ_ERRORS as exc:
        return undecided(LINK, "cannot_tell", f"no token ids can be made: {exc}")
    return _single_tokens.judge(subject)


def _texts(voice: Voice, other: Voice) -> list[Encoded]:
    def ids(speaker: Voice, text: str) -> tuple[int, ...]:
        try:
            return tuple(speaker.encode(text))
        except TokenizerError:  # text that would become a control token is refused
            return ()

    return [Encoded(text, ids(voice, text), ids(other, text)) for text in TEXTS]


def _renderings(voice: Voice, other: Voice) -> list[Case]:
    def text(speaker: Voice, messages: Any) -> tuple[str | None, str | None]:
        try:
            rendered = speaker.render(messages)
        except TemplateError as exc:
            return None, str(exc)
        return rendered, None if rendered is not None else "it has no template"

    cases = []
    for conversation in CONVERSATIONS:
        (mine, why), (theirs, why_theirs) = text(voice, conversation.messages), text(other, conversation.messages)
        cases.append(Case(conversation.id, conversation.messages, mine, theirs, refusals=(why, why_theirs)))
    return cases


def _prompts(cases: Sequence[Case], voice: Voice, other: Voice) -> list[Encoded]:
    """The reference's renderings, encoded by both: what differs then is not the template."""
    return [
        Encoded(
            case.reference,
            tuple(voice.encode_rendered(case.reference)),
            tuple(other.encode_rendered(case.reference)),
            case.conversation,
        )
        for case in cases
        if case.reference is not None
    ]


def _is_composed(pair: Pair, each: Encoded) -> bool:
    """Whether composing the text first (NFC) makes the ids equal, and the side that does not is a GGUF file, which cannot say so."""
    sides = (pair.reference, pair.candidate)
    if len({side.spec.normalization for side in sides}) == 1:
        return False
    if any(side.spec.normalization == "none" and side.file.format != "gguf" for side in sides):
        return False
    text = unicodedata.normalize("NFC", each.text)
    method = "encode" if each.conversation is None else "encode_rendered"
    mine, theirs = (getattr(side.voice, method)(text) for side in sides)
    return bool(list(mine) == list(theirs))


def _is_disputed(pair: Pair, each: Encoded) -> bool:
    """Whether all that differs is an entry like Qwen's `</s>`, an ordinary token by its type.

    llama.cpp goes by the name and makes it an end of turn (`llama-vocab.cpp`, `special_eog_ids`). It stands in no prompt
    but where a user wrote it.
    """
    spec = pair.reference.spec
    known = {text: i for i, text in enumerate(spec.tokens) if text in END_OF_TURN} if each.conversation else {}
    ordinary = [text for text, i in known.items() if spec.token_types[i] == TokenType.NORMAL and text in each.text]
    if not ordinary:
        return False
    text = each.text
    for name in ordinary:
        text = text.replace(name, "")
    return list(pair.reference.voice.encode_rendered(text)) == list(pair.candidate.voice.encode_rendered(text))


def _engine_finding(finding: Finding, cases: Sequence[Case]) -> Finding:
    """A rendering that differs, as what an engine does; one without any template lacks it."""
    if all(case.candidate is None for case in cases):
        sentence = "the candidate's engine has no chat template for this model, the reference's has"
        return Finding("template.missing", sentence, {"key": "chat_template"})
    return replace(finding, sentence=f"{finding.sentence}, as the engines render it")


def _by_evidence(
    pair: Pair, encoded: Sequence[Encoded], left: Sequence[Encoded], spec: TokenizerSpec, its_spec: TokenizerSpec
) -> list[Finding]:
    """One finding a cause: first what is added at the ends, and then, with the ends taken off, what is inside."""
    findings: list[Finding] = []
    inside: list[Encoded] = []
    for is_prompt in (False, True):
        group = [each for each in encoded if (each.conversation is not None) == is_prompt and each.text]
        wrong = [each for each in left if (each.conversation is not None) == is_prompt]
        if _is_wrapped(group):
            findings.append(_wrapped_finding(pair, wrong, is_prompt=is_prompt))
            continue
        ends, trimmed = _ends(group, wrong, spec, its_spec)
        if not any(finding.where == known.where for finding in ends for known in findings):
            findings += ends
        inside += [each for each in trimmed if each.differs]
    causes: dict[Cause, list[Encoded]] = {}
    tables = _Tables.of(spec, its_spec) if inside else None
    for each in inside:
        assert tables is not None
        causes.setdefault(tables.cause_of(each, pair.reference), []).append(each)
    for cause, examples in sorted(causes.items(), key=lambda item: -len(item[1])):
        findings.append(_inside_finding(pair, cause, examples, len(encoded)))
    return findings


def _is_wrapped(group: Sequence[Encoded]) -> bool:
    """Whether the candidate puts more than BOS and EOS around every text, whose own ids are inside.

    The first and the last id may merge with what is put around; texts too short to tell, or refused, are not counted.
    """
    counted = [each for each in group if len(each.reference) >= _LEAST_INSIDE and each.candidate]
    wrapped = 0
    for each in counted:
        inside, n_more = each.reference[1:-1], len(each.candidate) - len(each.reference)
        wrapped += n_more > len(_ENDS) and _holds(each.candidate, inside)
    return bool(counted) and wrapped >= _MOST * len(counted)


def _holds(token_ids: tuple[int, ...], inside: tuple[int, ...]) -> bool:
    n = len(inside)
    return any(token_ids[i : i + n] == inside for i in range(len(token_ids) - n + 1))


def _wrapped_finding(pair: Pair, wrong: Sequence[Encoded], *, is_prompt: bool) -> Finding:
    each = wrong[0]
    what = "a prompt that is formatted already" if is_prompt else "a raw text"
    row = _row(pair, each)
    sentence = (
        f"the candidate's engine wraps {what} once more: {each.text[:60]!r} becomes {row['candidate_tokens'][:12]} … "
        f"in place of {row['reference_tokens'][:12]}"
    )
    where = {"position": each.position, "text_offset": row["text_offset"], "text": each.text[:_IDS_SHOWN]}
    return Finding("template.double", sentence, where | {"conversation": each.conversation})


def _ends(
    group: Sequence[Encoded], wrong: Sequence[Encoded], spec: TokenizerSpec, its_spec: TokenizerSpec
) -> tuple[list[Finding], list[Encoded]]:
    """Findings for BOS and EOS that one side adds to every text, and the differing texts without them."""
    findings = []
    trimmed = list(wrong)
    for name, is_front in zip(_ENDS, (True, False), strict=True):
        ids = {getattr(spec, f"{name}_token_id"), getattr(its_spec, f"{name}_token_id")} - {None}
        counts = {(_run(each.reference, ids, is_front), _run(each.candidate, ids, is_front)) for each in group}
        if not wrong or not counts or any(mine == theirs for mine, theirs in counts):
            continue
        example = wrong[0]
        mine, theirs = _run(example.reference, ids, is_front), _run(example.candidate, ids, is_front)
        longer = example.reference if mine > theirs else example.candidate
        token_id = longer[0] if is_front else longer[-1]
        what = "prompts" if example.conversation is not None else "texts"
        verb = "begin" if is_front else "end"
        sentence = (
            f"all {what} {verb} with {theirs} {name.upper()} token{'s' if theirs != 1 else ''} ({token_id}) "
            f"in the candidate, {mine} in the reference"
        )
        where = {"key": f"add_{name}_token", "token_id": token_id, "reference": mine, "candidate": theirs}
        findings.append(Finding("tokenizer.bos", sentence, where))
        trimmed = [
            replace(
                each,
                reference=_without(each.reference, ids, is_front),
                candidate=_without(each.candidate, ids, is_front),
            )
            for each in trimmed
        ]
    return findings, trimmed


def _run(token_ids: tuple[int, ...], ids: set[int], is_front: bool) -> int:
    """How many of these ids stand at one end."""
    ordered = token_ids if is_front else token_ids[::-1]
    return next((n for n, token_id in enumerate(ordered) if token_id not in ids), len(ordered))


def _without(token_ids: tuple[int, ...], ids: set[int], is_front: bool) -> tuple[int, ...]:
    n = _run(token_ids, ids, is_front)
    return token_ids[n:] if is_front else token_ids[: len(token_ids) - n]


@dataclass(frozen=True, slots=True)
class _Tables:
    """What the two sides' tables say about a difference inside a text.

    control:  ids that are control tokens on either side
    """

    reference: TokenizerSpec
    candidate: TokenizerSpec
    control: frozenset[int]
    have_same_merges: bool

    @classmethod
    def of(cls, reference: TokenizerSpec, candidate: TokenizerSpec) -> _Tables:
        control = frozenset(ids_of_type(reference, *HIDDEN_TYPES)) | frozenset(ids_of_type(candidate, *HIDDEN_TYPES))
        at = _tokenizer_tables.first_difference(list(reference.merges), list(candidate.merges))
        return cls(reference, candidate, control, at is None or reference.kind != candidate.kind)

    def cause_of(self, each: Encoded, reader: Subject) -> Cause:
        """By the first id that differs. reader: whose tables say what ids stand for."""
        at = each.position
        first = {side[at] for side in (each.reference, each.candidate) if at < len(side)}
        if first & self.control or not (each.reference and each.candidate):
            return "tokenizer.special"
        n = min(len(self.reference.tokens), len(self.candidate.tokens))
        if any(i >= n or self.reference.tokens[i] != self.candidate.tokens[i] for i in first):
            return "tokenizer.vocab"
        if not self.have_same_merges:
            return "tokenizer.merges"
        is_cut = max(each.candidate) < n and reader.tokenizer.decode(each.reference) == reader.tokenizer.decode(
            each.candidate
        )
        return "tokenizer.pre" if is_cut else "tokenizer.vocab"


def _inside_finding(pair: Pair, cause: Cause, examples: Sequence[Encoded], n_texts: int) -> Finding:
    each = min(examples, key=lambda each: (each.conversation is not None, len(each.text)))
    row = _row(pair, each)
    at = each.position
    said = {
        "tokenizer.special": "a control token is taken for text, or text for a control token",
        "tokenizer.vocab": "the same entry has another id",
        "tokenizer.merges": "the same text is joined otherwise",
    }.get(cause, "the same text is cut elsewhere, though the tables agree")
    around = slice(max(0, at - 2), at + 6)
    offset = max(0, row["text_offset"] - 20)
    sentence = (
        f"{said}: {each.text[offset : offset + 60]!r} becomes {row['candidate_tokens'][around]} in the candidate, "
        f"{row['reference_tokens'][around]} in the reference ({len(examples)} of {n_texts} texts)"
    )
    where = {
        "position": at,
        "text_offset": row["text_offset"],
        "token_id": each.reference[at] if at < len(each.reference) else None,
        "reference": each.reference[at] if at < len(each.reference) else None,
        "candidate": each.candidate[at] if at < len(each.candidate) else None,
        "text": each.text[:_IDS_SHOWN],
        "conversation": each.conversation,
        "n_different": len(examples),
    }
    return Finding(cause, sentence, where)


def _row(pair: Pair, each: Encoded) -> dict[str, Any]:
    """One difference, for reports."""
    mine, theirs = each.reference[:_IDS_SHOWN], each.candidate[:_IDS_SHOWN]
    return {
        "text": each.text,
        "conversation": each.conversation,
        "text_offset": _offset(pair.reference, each),
        "position": each.position,
        "reference_ids": list(mine),
        "candidate_ids": list(theirs),
        "reference_tokens": _names(pair.reference, mine),
        "candidate_tokens": _names(pair.candidate, theirs),
    }


def _offset(reference: Subject, each: Encoded) -> int:
    """The character at which the first different token begins; a BOS that was added holds no character."""
    ids = each.reference[: each.position]
    spec = reference.spec
    if each.conversation is None and spec.add_bos:
        ids = ids[1:]
    data = b"".join(reference.tokenizer.text_of(token_id) for token_id in ids if token_id < len(spec.tokens))
    return min(len(data.decode("utf-8", "ignore")), len(each.text))


def _names(subject: Subject, token_ids: Sequence[int]) -> list[str]:
    try:
        return [subject.tokenizer.token(token_id) for token_id in token_ids]
    except AprError:
        return [str(token_id) for token_id in token_ids]
