"""Expectations of a document: paths, figures with intervals, verdicts that decide nothing, and documents of failure."""

from __future__ import annotations

from typing import Any

import pytest

from apr.errors import UsageError
from apr.ledger._expect import Expect, judge, look_up

DOCUMENT: dict[str, Any] = {
    "schema": "apr.eval/1",
    "exit_code": 0,
    "text": "def fib(n):\n    return n",
    "flag": True,
    "one": 1,
    "scores": [
        {"name": "pass@1", "regime": "raw", "value": 0.40, "interval": [0.33, 0.48]},
        {"name": "pass@1", "regime": "chat", "value": None, "interval": None},
    ],
    "gates": [
        {"id": "golden_output", "status": "undecided"},
        {"id": "broken", "status": "error"},
        {"id": 1, "status": "pass"},
    ],
}
RAW = "scores[name=pass@1,regime=raw]"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("exit_code", 0),
        ("scores[0].value", 0.40),
        ("scores[1].regime", "chat"),
        (f"{RAW}.interval[1]", 0.48),
        ("gates[id=golden_output].status", "undecided"),
        ("gates[id=1].status", "pass"),
    ],
)
def test_a_path_leads_to_its_value(path: str, value: Any) -> None:
    assert look_up(DOCUMENT, path) == value


@pytest.mark.parametrize("path", ["", ".a", "a..b", "a[", "a[x]", "a b", "a[0]b", "$.a", "a.b]"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="is no path"):
        look_up(DOCUMENT, path)


@pytest.mark.parametrize(
    ("expect", "status"),
    [
        (Expect("exit_code", "equals", 0), "pass"),
        (Expect("exit_code", "equals", 1), "fail"),
        (Expect("flag", "equals", True), "pass"),
        (Expect("one", "equals", True), "fail"),  # true is not 1
        (Expect("one", "equals", 1.0), "pass"),
        (Expect("one", "equals", "1"), "fail"),
        (Expect("one", "one_of", [0, 1]), "pass"),
        (Expect("text", "matches", r"return\s"), "pass"),
        (Expect("text", "matches", "lambda"), "fail"),
        (Expect("one", "matches", "1"), "error"),
        (Expect("scores[1].value", "matches", "1"), "fail"),  # null where a text is promised
        (Expect("nowhere.at.all", "equals", 1), "error"),
        (Expect(f"{RAW}.value", "at_least", 0.40), "pass"),
        (Expect(f"{RAW}.value", "at_least", 0.41), "fail"),
        (Expect(f"{RAW}.value", "at_most", 0.40), "pass"),
        (Expect(f"{RAW}.value", "at_most", 0.39), "fail"),
        (Expect("scores[1].value", "at_least", 0.1), "error"),  # null is no number
        (Expect("flag", "at_least", 0), "error"),
        (Expect("gates[id=golden_output].status", "equals", "pass"), "undecided"),
        (Expect("gates[id=broken].status", "equals", "pass"), "error"),
        (Expect("gates[id=absent].status", "equals", "pass"), "error"),
    ],
)
def test_a_condition_is_kept_broken_or_neither(expect: Expect, status: str) -> None:
    assert judge([expect], DOCUMENT).status == status


@pytest.mark.parametrize(
    ("op", "bar", "status"),
    [
        ("at_least", 0.33, "pass"),
        ("at_least", 0.35, "undecided"),
        ("at_least", 0.48, "undecided"),
        ("at_least", 0.49, "fail"),
        ("at_most", 0.48, "pass"),
        ("at_most", 0.35, "undecided"),
        ("at_most", 0.33, "undecided"),
        ("at_most", 0.32, "fail"),
    ],
)
def test_a_figure_with_an_interval_is_judged_by_all_of_it(op: Any, bar: float, status: str) -> None:
    outcome = judge([Expect(f"{RAW}.value", op, bar, f"{RAW}.interval")], DOCUMENT)
    assert (outcome.status, outcome.interval) == (status, (0.33, 0.48))


@pytest.mark.parametrize("interval", ["scores[1].interval", "scores[0].name", "nowhere"])
def test_without_the_interval_that_was_promised_nothing_is_decided(interval: str) -> None:
    assert judge([Expect(f"{RAW}.value", "at_least", 0.1, interval)], DOCUMENT).status == "error"


@pytest.mark.parametrize(
    ("code", "status"), [(1, "fail"), (2, "error"), (3, "fail"), (4, "error"), (5, "undecided"), (130, "error")]
)
def test_an_exit_code_says_whose_failure_it_was(code: int, status: str) -> None:
    assert judge([Expect("exit_code", "equals", 0)], {"exit_code": code}).status == status


@pytest.mark.parametrize(("code", "status"), [(3, "fail"), (2, "error"), (4, "error")])
def test_a_command_that_ended_early_says_why(code: int, status: str) -> None:
    document = {"schema": "apr.error/1", "message": "byte 4: cut short", "exit_code": code}
    outcome = judge([Expect("verdict", "equals", "pass")], document)
    assert outcome.status == status and "cut short" in outcome.sentence


def test_the_heaviest_condition_decides_and_everything_is_observed() -> None:
    kept, broken = Expect("one", "equals", 1), Expect("flag", "equals", False)
    open_ = Expect("gates[id=golden_output].status", "equals", "pass")
    assert judge([kept, open_], DOCUMENT).status == "undecided"
    outcome = judge([kept, open_, broken], DOCUMENT)
    assert outcome.status == "fail" and outcome.sentence == "flag is true, expected false"
    assert outcome.observed == {"one": 1, "gates[id=golden_output].status": "undecided", "flag": True}


def test_to_expect_nothing_is_an_error() -> None:
    assert judge([], DOCUMENT).status == "error"


def test_a_pattern_that_would_never_end_is_an_error_that_names_it() -> None:
    outcome = judge(
        [Expect("text", "matches", "(a|aa)+$"), Expect("one", "equals", 1)], {"text": "a" * 60 + "b", "one": 1}
    )
    assert outcome.status == "error" and "text: the pattern '(a|aa)+$' gave no answer in 1 s" in outcome.sentence
