"""Two renderings: each kind of difference is named by its evidence."""

from __future__ import annotations

import pytest

from apr.parity._renderings import Case, explained, is_bare, line_at, offset_of

MESSAGES = ({"role": "user", "content": "Hi there"},)
GOOD = "<s><|user|>\nHi there<|end|>\n<|assistant|>\n"
BARE_END = "<s><|user|>\nHi there<|end|>\n"


def case(candidate: str | None, *, reference: str | None = GOOD) -> Case:
    return Case("one", MESSAGES, reference, candidate, ("no", "refused"), BARE_END)


@pytest.mark.parametrize(
    ("candidate", "cause"),
    [
        ("Hi there", "template.not_applied"),
        ("Hi there\n", "template.not_applied"),
        ("<s>" + GOOD, "template.double"),
        (GOOD + GOOD, "template.double"),
        (GOOD.replace("<|user|>", "<|user|><|user|>"), "template.double"),
        (GOOD.replace("Hi there", GOOD.strip()), "template.double"),
        (BARE_END, "template.generation_prompt"),
        (GOOD + "<|assistant|>\n", "template.generation_prompt"),
        (GOOD.rstrip(), "template.text"),
        (GOOD.replace("\nHi", "\n Hi"), "template.text"),
        (GOOD.replace("<|end|>", ""), "template.text"),
        ("<|sys|>Be nice.<|end|>" + GOOD, "template.text"),
        (None, "template.text"),
    ],
)
def test_a_difference_is_named_by_its_evidence(candidate: str | None, cause: str) -> None:
    finding = explained([case(candidate)])
    assert finding is not None and finding.cause == cause


def test_equal_renderings_and_two_refusals_are_no_difference() -> None:
    assert explained([case(GOOD), case(None, reference=None)]) is None


def test_one_conversation_that_differs_otherwise_speaks_against_a_special_cause() -> None:
    finding = explained([case(BARE_END), case(GOOD.replace("Hi", "Ho"))])
    assert finding is not None and finding.cause == "template.text"


def test_a_refusal_is_told_with_its_message() -> None:
    finding = explained([case(None)])
    assert finding is not None and finding.where["candidate"] == "refused"


def test_the_place_and_the_line_of_a_difference() -> None:
    assert offset_of("abc\ndef", "abc\ndxf") == 5 and offset_of("ab", "abc") == 2
    assert line_at("one\ntwo\nthree", 5) == "two\n" and len(line_at("x" * 1000, 500)) == 160


def test_bare_messages_are_known_apart_from_blanks() -> None:
    assert is_bare(" Hi\n there", MESSAGES) and not is_bare(GOOD, MESSAGES)
