"""Two renderings of the same conversations, and which fault explains the difference: evidence first, then a name for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apr.parity._causes import Cause
from apr.parity._link import Finding

_LINE_CHARS = 160
# what templates write around turns: <|im_start|>, <s>, <start_of_turn>, [INST]
_MARKER = r"<\|[^|<>\s]+\|>|</?[a-z_]{1,20}>|\[/?INST\]"
_REPEATED = re.compile(rf"({_MARKER})(\s*)(?:\1\2)+")


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation, rendered twice.

    reference, candidate:  the texts; a refusal is None, with its message in `refusals`
    without_header:        the reference's text when no answer is asked for; None where that is not known
    """

    conversation: str
    messages: Sequence[Mapping[str, Any]]
    reference: str | None
    candidate: str | None
    refusals: tuple[str | None, str | None] = (None, None)
    without_header: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the texts differ, or only one side refuses."""
        return self.reference != self.candidate


def explained(cases: Sequence[Case]) -> Finding | None:
    """What is wrong with the candidate's renderings; None if they are the reference's."""
    differing = [case for case in cases if case.differs]
    if not differing:
        return None
    both = [case for case in cases if case.reference is not None and case.candidate is not None]
    wrong = [case for case in both if case.differs]
    for cause, said, is_so in _RULES:
        if wrong and _holds(cause, is_so, wrong):
            return _finding(cause, said, wrong[0], len(differing), len(cases))
    first = (wrong or differing)[0]
    return _finding("template.text", "the template writes something else", first, len(differing), len(cases))


def offset_of(reference: str, candidate: str) -> int:
    """The first character in which two texts differ."""
    pairs = zip(reference, candidate, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(reference), len(candidate)))


def line_at(text: str, offset: int) -> str:
    """The line of a text around a place in it."""
    start = text.rfind("\n", 0, offset) + 1
    stop = text.find("\n", offset)
    line = text[start : len(text) if stop < 0 else stop + 1]
    at = max(0, offset - start - _LINE_CHARS // 2)
    return line[at : at + _LINE_CHARS]


def is_bare(text: str, messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a prompt is nothing but what the messages say, all of them or the last one, apart from blanks."""
    contents = [str(message.get("content") or "") for message in messages]
    squeezed = "".join(text.split())
    return squeezed in ("".join("".join(contents).split()), "".join(contents[-1].split()))


def _holds(cause: Cause, is_so: Callable[[Case], bool], wrong: Sequence[Case]) -> bool:
    """Whether a fault explains every case; wrapped twice, it is enough for most: a system message hides it in the others."""
    explained_cases = sum(1 for case in wrong if is_so(case))
    if cause == "template.double":
        return is_so(wrong[0]) and 2 * explained_cases >= len(wrong)
    return explained_cases == len(wrong)


def _is_bare(case: Case) -> bool:
    assert case.reference is not None and case.candidate is not None
    return is_bare(case.candidate, case.messages) and not is_bare(case.reference, case.messages)


def _is_doubled(case: Case) -> bool:
    reference, candidate = case.reference or "", case.candidate or ""
    if len(candidate) <= len(reference):
        return False
    if candidate == reference + reference:
        return True
    at = candidate.find(reference.strip())
    if reference.strip() and at > 0 and reference.startswith(candidate[:at]):
        return True  # a beginning of text twice, or the whole prompt as the content of a turn
    return _once(candidate) == _once(reference) and candidate != reference


def _once(text: str) -> str:
    """The text with markers that follow themselves written once."""
    return _REPEATED.sub(r"\1\2", text)


def _is_ending(case: Case) -> bool:
    """Whether the answer's whole header is lost or added at the end; a header that is spelled otherwise is another text."""
    reference, candidate = case.reference or "", case.candidate or ""
    if candidate.startswith(reference):
        added = candidate[len(reference) :].strip()
        header = reference[len(case.without_header) :].strip() if case.without_header is not None else ""
        contents = [str(message.get("content") or "").strip() for message in case.messages]
        is_turn = any(content and content in added for content in contents)
        return bool(added) and not is_turn and (not header or added == header)
    if not reference.startswith(candidate) or not reference[len(candidate) :].strip():
        return False
    return case.without_header is None or candidate.rstrip() == case.without_header.rstrip()


def _finding(cause: Cause, said: str, case: Case, n_different: int, n_cases: int) -> Finding:
    where: dict[str, Any] = {"conversation": case.conversation, "n_different": n_different, "n_conversations": n_cases}
    share = f"{n_different} of {n_cases} conversations"
    if case.reference is None or case.candidate is None:
        side, message = ("candidate", case.refusals[1]) if case.candidate is None else ("reference", case.refusals[0])
        where |= {side: message}
        return Finding(
            cause, f"only the {side}'s template refuses {case.conversation!r}: {message} ({share} differ)", where
        )
    at = offset_of(case.reference, case.candidate)
    mine, theirs = line_at(case.reference, at), line_at(case.candidate, at)
    where |= {"text_offset": at, "reference": mine, "candidate": theirs}
    sentence = (
        f"{said} ({share} differ; the first, {case.conversation!r}, at character {at}: {theirs!r} in place of {mine!r})"
    )
    return Finding(cause, sentence, where)


_RULES: tuple[tuple[Cause, str, Callable[[Case], bool]], ...] = (
    ("template.not_applied", "the candidate's prompt is the bare messages: its template is not applied", _is_bare),
    ("template.generation_prompt", "the candidate's prompt ends otherwise, where the answer is to begin", _is_ending),
    ("template.double", "the candidate's prompt is wrapped twice", _is_doubled),
)
