"""Each condition met, and each not met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import scripted
from apr.engines._record import RunRecord
from apr.engines._subject import Subject
from apr.ledger import _conditions
from ledger import predictions

QUESTION = predictions.QUESTION


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunRecord]:
    path = scripted.write(tmp_path_factory.mktemp("model"))
    script = scripted.Script(path, {scripted.chat(QUESTION): "It is 4"})
    with Subject(path, loader=script.loader()) as subject:
        yield subject.language_model.generate(QUESTION, max_tokens=16)


def judged(folder: Path, condition: dict[str, Any], record: RunRecord, control: RunRecord | None = None) -> str:
    asked = [condition, {"contains": "4", "run": "control"}]
    (found, *_) = _conditions.judge(predictions.one(folder, expected=asked), "experiment", record, control or record)
    return found.status


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ({"contains": "is 4"}, "pass"),
        ({"contains": "5"}, "fail"),
        ({"equals": "It is 4"}, "pass"),
        ({"equals": "It is 4."}, "fail"),
        ({"matches": r"\b4\b"}, "pass"),
        ({"matches": "^4"}, "fail"),
        ({"equals": "eos", "field": "finish_reason"}, "pass"),
        ({"equals": "raw", "field": "template.decision"}, "fail"),
        ({"equals": 16, "field": "max_tokens"}, "pass"),
        ({"not_degenerate": True}, "pass"),
        ({"parses_as": "python"}, "fail"),
        ({"same_token_ids_as": "control"}, "pass"),
    ],
)
def test_a_condition_is_met_or_not(tmp_path: Path, record: RunRecord, condition: dict[str, Any], status: str) -> None:
    assert judged(tmp_path, condition, record) == status


@pytest.mark.parametrize(
    ("text", "status"),
    [("ampiezza = 0.5\n" * 12, "fail"), ("\ns" * 40, "fail"), ("  ", "fail"), ("The sum is four.", "pass")],
)
def test_gibberish_and_silence_are_degenerate(tmp_path: Path, record: RunRecord, text: str, status: str) -> None:
    assert judged(tmp_path, {"not_degenerate": True}, replace(record, text=text, steps=())) == status


@pytest.mark.parametrize(
    ("text", "reason", "status"),
    [
        ("Here:\n```python\ndef fib(n):\n    return n\n```\nDone.", "eos", "pass"),
        ("def fib(n):\n    return fib(n-1", "eos", "fail"),
        ("def fib(n):\n    return n\nx = (", "length", "pass"),
        ("", "eos", "fail"),
        ("# only a remark", "eos", "fail"),
        ("x = '\x00'", "eos", "fail"),
        ("(" * 5000, "eos", "fail"),
    ],
)
def test_python_is_python(tmp_path: Path, record: RunRecord, text: str, reason: Any, status: str) -> None:
    made = replace(record, text=text, finish_reason=reason)
    assert judged(tmp_path, {"parses_as": "python"}, made) == status


def test_what_goes_on_with_a_raw_prompt_is_parsed_with_it(tmp_path: Path, record: RunRecord) -> None:
    raw = replace(record.template, decision="raw")
    made = replace(record, template=raw, prompt_text="def fib(n):", text="\n    return n\n")
    assert judged(tmp_path, {"parses_as": "python"}, made) == "pass"
    assert judged(tmp_path, {"parses_as": "python"}, replace(made, prompt_text="def fib(n:")) == "fail"


def test_other_tokens_than_the_controls_are_seen(tmp_path: Path, record: RunRecord) -> None:
    other = replace(record, output_token_ids=(*record.output_token_ids[:-1], 0))
    assert judged(tmp_path, {"same_token_ids_as": "control"}, other, record) == "fail"


def test_a_condition_is_asked_of_the_run_that_it_names(tmp_path: Path, record: RunRecord) -> None:
    asked = [{"contains": "4", "run": "control"}, {"contains": "is", "run": "experiment"}, {"not_degenerate": True}]
    one = predictions.one(tmp_path, expected=asked)
    told = {
        run: [found.condition for found in _conditions.judge(one, run, record, record)]
        for run in predictions.prediction.RUNS
    }
    assert told == {
        "control": ["contains '4'", "not degenerate"],
        "experiment": ["contains 'is'", "not degenerate"],
    }
