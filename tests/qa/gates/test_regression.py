"""What an earlier report passed must pass; figures are held as ratios; what cannot be compared says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.qa import gate
from apr.qa._judged import Judged
from apr.qa.gate import Finding, GateResult
from apr.qa.gates import regression
from apr.reports.json import dumps
from judged_models import codes


def result(name: str, status: Any = "pass", **more: Any) -> GateResult:
    made = GateResult(name, status, "code", "a sentence", (), "why", "source", "P0", 0.0)
    return replace(made, **more)


GOLDEN = result("golden_output", measure={"right_share": 0.9}, interval=(0.7, 0.98))
SPEED = result("throughput", measure={"limit_fraction": 0.8}, interval=(0.78, 0.82))
BEFORE = (result("tensor_finite"), GOLDEN, SPEED)


@pytest.fixture
def judged(tmp_path: Path) -> Iterator[Judged]:
    with Judged(tiny.write(tmp_path, "gguf"), profile="smoke") as one:
        yield one


def findings(
    judged: Judged, before: tuple[GateResult, ...], now: tuple[GateResult, ...], **changed: Any
) -> list[Finding]:
    document = {
        "schema": "apr.qa/1",
        "model_sha256": judged.sha256,
        "computed_by": judged.computed_by,
        "gates": [json.loads(dumps(one)) for one in before],
    }
    judged.previous = document | changed
    judged.results = now
    return list(regression.check.check(judged))


def test_the_same_results_pass(judged: Judged) -> None:
    found = findings(judged, BEFORE, BEFORE)
    assert {f.status for f in found} == {"pass"} and [f.code for f in found] == ["kept", "as-before", "as-before"]
    ratio = found[-1]
    assert ratio.measure["ratio"] == 1.0 and ratio.interval is not None and ratio.interval[0] < 1.0 < ratio.interval[1]


@pytest.mark.parametrize("status", ["fail", "error"])
def test_a_pass_that_became_a_failure_fails(status: str, judged: Judged) -> None:
    found = findings(judged, BEFORE, (result("tensor_finite", status), GOLDEN, SPEED))
    assert [(f.status, f.code, f.where["gate"]) for f in found if f.status != "pass"] == [
        ("fail", "lost", "tensor_finite")
    ]


def test_a_failure_that_stayed_one_is_no_regression(judged: Judged) -> None:
    both = (result("tensor_finite", "fail"),)
    assert [f.code for f in findings(judged, both, both)] == ["kept"]


def test_a_pass_that_is_skipped_now_is_not_kept(judged: Judged) -> None:
    found = findings(judged, BEFORE, (result("tensor_finite", "skip"),))
    assert [(f.status, f.code) for f in found] == [("undecided", "no-longer-decided")]


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (replace(SPEED, measure={"limit_fraction": 0.4}, interval=(0.38, 0.42)), "slower"),
        (replace(GOLDEN, measure={"right_share": 0.3}, interval=(0.1, 0.5)), "worse"),
    ],
)
def test_less_beyond_the_intervals_fails(now: GateResult, code: str, judged: Judged) -> None:
    found = [f for f in findings(judged, BEFORE, (now,)) if f.status != "pass"]
    assert [(f.status, f.code) for f in found] == [("fail", code)]
    assert found[0].interval is not None and found[0].interval[1] < 1.0


def test_less_within_the_intervals_passes(judged: Judged) -> None:
    now = replace(SPEED, measure={"limit_fraction": 0.79}, interval=(0.75, 0.83))
    assert {f.status for f in findings(judged, BEFORE, (now,))} == {"pass"}


def test_another_model_is_not_comparable_and_the_field_is_named(judged: Judged) -> None:
    found = findings(judged, BEFORE, BEFORE, model_sha256="0" * 64)
    assert [(f.status, f.code, f.where["key"]) for f in found] == [("undecided", "not-comparable", "model_sha256")]


def test_a_report_without_the_schema_is_not_comparable(judged: Judged) -> None:
    assert findings(judged, BEFORE, BEFORE, schema="apr.validate/1")[0].where["key"] == "schema"


def test_another_machines_speed_is_not_compared(judged: Judged) -> None:
    found = [f for f in findings(judged, BEFORE, BEFORE, computed_by="another") if f.status != "pass"]
    assert [(f.status, f.code, f.where["key"]) for f in found] == [("undecided", "other-machine", "computed_by")]


def test_without_a_report_it_is_skipped_with_what_to_type(judged: Judged) -> None:
    found = list(regression.check.check(judged))
    assert [(f.status, f.code) for f in found] == [("skip", "no-previous")] and "--previous" in found[0].message


def test_no_gate_in_common_is_no_pass(judged: Judged) -> None:
    assert [f.code for f in findings(judged, BEFORE, ())] == ["nothing-shared"]


def test_it_runs_last_and_sees_what_the_others_came_to(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf")
    only = ("tensor_finite", "vocabulary", "regression", "determinism")
    with Judged(path, profile="smoke") as one:
        first = gate.run("smoke", one, only=only)
    with Judged(path, profile="smoke", previous=json.loads(dumps(first))) as one:
        second = gate.run("smoke", one, only=only)
    assert [r.id for r in second.gates][-1] == "regression"
    assert first.gates[-1].status == "skip" and second.gates[-1].status == "pass", second.gates[-1].message
    assert second.gates[-1].findings[0].measure["n_compared"] == 3
    assert codes(second.gates[-1]) == set()
