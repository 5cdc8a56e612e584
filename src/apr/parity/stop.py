"""Which tokens end a turn: a static question, whose findings are reported under link "generation".

A stop id that is missing lets a model run on into a turn that nobody took; one too many cuts its answers short.
"""

from __future__ import annotations

from collections.abc import Sequence

from apr.engines._subject import Subject
from apr.errors import AprError, TemplateError
from apr.parity._causes import Cause
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._pair import Pair
from apr.tokenizer.spec import TokenizerSpec, TokenType

LINK = "generation"
_SPECIAL = frozenset({TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN})
_ANSWER = "the answer itself"
_TALK = (
    {"role": "user", "content": "a question"},
    {"role": "assistant", "content": _ANSWER},
    {"role": "user", "content": "one more"},
)


def compare(pair: Pair) -> LinkResult:
    """The two sets of ids that end a turn. measure: both sets, as [id, text] pairs."""
    try:
        reference, spec = pair.reference.stop_token_ids, pair.reference.spec
    except AprError as exc:
        return undecided(LINK, "not_comparable", f"the reference's stop tokens cannot be read: {exc}")
    try:
        candidate, its_spec = pair.candidate.stop_token_ids, pair.candidate.spec
    except AprError as exc:
        return undecided(LINK, "cannot_tell", f"the candidate's stop tokens cannot be read: {exc}")
    measure = {
        "stop_reference": [[i, _text(spec, i)] for i in sorted(reference)],
        "stop_candidate": [[i, _text(its_spec, i)] for i in sorted(candidate)],
    }
    findings = [
        _finding(
            "stop.missing",
            i,
            spec,
            f"the candidate does not stop at token {i} ({_text(spec, i)!r}), the reference does",
        )
        for i in sorted(reference - candidate)
    ]
    findings += [
        _finding(
            "stop.extra",
            i,
            its_spec,
            f"the candidate stops at token {i} ({_text(its_spec, i)!r}), the reference goes on",
        )
        for i in sorted(candidate - reference)
    ]
    if findings:
        return different(LINK, findings, measure)
    return same(LINK, f"both stop at {_listed(spec, reference)}", measure)


def force(pair: Pair, findings: Sequence[Finding]) -> Subject:
    """The candidate, stopping where the reference stops."""
    return pair.candidate.with_stop(pair.reference.stop_token_ids)


def examine(subject: Subject) -> LinkResult:
    """One model by itself: it stops somewhere, only at special tokens, and where its template ends a turn."""
    try:
        ids, spec = subject.stop_token_ids, subject.spec
    except AprError as exc:
        return undecided(LINK, "cannot_tell", f"the stop tokens cannot be read: {exc}")
    measure = {"stop_candidate": [[i, _text(spec, i)] for i in sorted(ids)]}
    findings = unheard_turn_ends(subject)
    if not ids:
        findings.append(
            Finding("stop.missing", "no token ends a turn: generation never stops by itself", {"key": "eos_token_id"})
        )
    for i in sorted(ids):
        if i < len(spec.tokens) and spec.token_types[i] not in _SPECIAL:
            sentence = (
                f"token {i} ({_text(spec, i)!r}) ends a turn and is an ordinary token: answers stop in mid-sentence"
            )
            findings.append(_finding("stop.extra", i, spec, sentence))
    if findings:
        return different(LINK, findings, measure)
    return same(LINK, f"generation stops at {_listed(spec, ids)}", measure)


def unheard_turn_ends(subject: Subject) -> list[Finding]:
    """stop.missing for the control token that the template writes behind an answer, if generation does not stop there.

    Empty without a template, and for one that writes no control token there. Raises what reading the tokenizer raises.
    """
    end = turn_end(subject)
    if end is None or end[0] in subject.stop_token_ids:
        return []
    token_id, text = end
    sentence = f"the template ends a turn with {text!r} (token {token_id}), and generation does not stop there"
    return [_finding("stop.missing", token_id, subject.spec, sentence)]


def turn_end(subject: Subject) -> tuple[int, str] | None:
    """Id and text of the control token that the template writes right behind an answer; None if there is none."""
    if subject.template is None:
        return None
    try:
        rendered = subject.template.render(_TALK, add_generation_prompt=False).text
    except TemplateError:
        return None
    behind = rendered.rpartition(_ANSWER)[2].lstrip() if _ANSWER in rendered else ""
    control = subject.tokenizer.control_tokens
    found = [text for text in control if text and behind.startswith(text)]
    longest = max(found, key=len, default=None)
    return None if longest is None else (control[longest], longest)


def _finding(cause: Cause, token_id: int, spec: TokenizerSpec, sentence: str) -> Finding:
    return Finding(cause, sentence, {"token_id": token_id, "token": _text(spec, token_id)})


def _text(spec: TokenizerSpec, token_id: int) -> str:
    return spec.tokens[token_id] if 0 <= token_id < len(spec.tokens) else f"id {token_id}, outside the vocabulary"


def _listed(spec: TokenizerSpec, ids: frozenset[int]) -> str:
    return ", ".join(f"{i} ({_text(spec, i)})" for i in sorted(ids)) or "no token"
