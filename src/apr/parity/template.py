"""Link "template": does the chat template write the same prompt for the same conversation?

Two templates may differ in text and agree in everything they write, so what counts is the renderings of a battery of
conversations, by our renderer for both sides. How an engine itself renders is looked at with the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apr.engines._subject import Subject
from apr.errors import FormatError, TemplateError, TokenizerError, UnsupportedError
from apr.parity import _single_template
from apr.parity._batteries import CONVERSATIONS, NOW, Conversation
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._pair import Pair
from apr.parity._renderings import Case, explained
from apr.tokenizer.chat_template import ChatTemplate

LINK = "template"
_READ_ERRORS = (FormatError, UnsupportedError, TokenizerError, TemplateError)
_DIFFERENCES_SHOWN = 5


def compare(pair: Pair) -> LinkResult:
    """The renderings of every conversation of the battery.

    measure:  "n_conversations", "n_refused" by both, "differences" (the first few, whole), "sha256" of both texts, "notes"
    """
    try:
        reference = pair.reference.template
    except _READ_ERRORS as exc:
        return undecided(LINK, "not_comparable", f"the reference's template cannot be read: {exc}")
    try:
        candidate = pair.candidate.template
    except _READ_ERRORS as exc:
        return undecided(LINK, "cannot_tell", f"the candidate's template cannot be read: {exc}")
    measure: dict[str, Any] = {"n_conversations": 0, "differences": [], "notes": []}
    if reference is None and candidate is None:
        return undecided(LINK, "skipped", "neither model carries a chat template", measure)
    if reference is None or candidate is None:
        return different(LINK, [_alone(reference, candidate)], measure)
    cases = [_case(reference, candidate, conversation) for conversation in CONVERSATIONS]
    answered = [case for case in cases if case.reference is not None or case.candidate is not None]
    measure |= {
        "n_conversations": len(answered),
        "n_refused": len(cases) - len(answered),
        "sha256": [reference.sha256, candidate.sha256],
        "differences": [
            {"conversation": case.conversation, "reference": case.reference, "candidate": case.candidate}
            for case in cases
            if case.differs
        ][:_DIFFERENCES_SHOWN],
    }
    if not answered:
        return undecided(
            LINK, "not_comparable", f"the reference's template renders nothing: {cases[0].refusals[0]}", measure
        )
    finding = explained(cases)
    if finding is not None:
        return different(LINK, [finding], measure)
    if reference.source != candidate.source:
        measure["notes"] = ["the two templates are different texts and write the same prompts"]
    return same(LINK, f"the templates write the same prompt for {len(answered)} conversations", measure)


def force(pair: Pair, findings: Sequence[Finding]) -> Subject:
    """The candidate with the reference's template."""
    return pair.candidate.with_template(pair.reference)


def examine(subject: Subject) -> LinkResult:
    """One template by itself: it renders what it is given, ends where an answer begins, and its turns can end."""
    try:
        template = subject.template
    except _READ_ERRORS as exc:
        return undecided(LINK, "cannot_tell", f"the template cannot be read: {exc}")
    if template is None:
        reason = "the model carries no chat template, which is right for a base model and wrong for one made to chat"
        return undecided(LINK, "cannot_tell", reason)
    return _single_template.judge(subject, template)


def _alone(reference: ChatTemplate | None, candidate: ChatTemplate | None) -> Finding:
    if candidate is None:
        assert reference is not None
        sentence = "the candidate carries no chat template, the reference does: messages are continued as raw text"
        return Finding(
            "template.missing", sentence, {"key": "chat_template", "reference": reference.origin, "candidate": None}
        )
    sentence = "the candidate carries a chat template, the reference does not: prompts are wrapped that should be raw"
    return Finding(
        "template.text", sentence, {"key": "chat_template", "reference": None, "candidate": candidate.origin}
    )


def _case(reference: ChatTemplate, candidate: ChatTemplate, conversation: Conversation) -> Case:
    (mine, why_not), (theirs, why_theirs_not) = _rendered(reference, conversation), _rendered(candidate, conversation)
    return Case(
        conversation.id,
        conversation.messages,
        mine,
        theirs,
        refusals=(why_not, why_theirs_not),
        without_header=None if mine == theirs else _rendered(reference, conversation, header=False)[0],
    )


def _rendered(
    template: ChatTemplate, conversation: Conversation, *, header: bool = True
) -> tuple[str | None, str | None]:
    """The text, or why there is none."""
    tools = list(conversation.tools) or None
    try:
        return template.render(
            conversation.messages, tools=tools, add_generation_prompt=header, strftime_now=NOW
        ).text, None
    except TemplateError as exc:
        return None, str(exc)
