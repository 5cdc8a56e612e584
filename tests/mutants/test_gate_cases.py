"""The gates' bench: every gate has a defect of its own, the judge can say no, and gates that need no engine know theirs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import apr.qa.gates
from apr import _folder
from apr.qa.gate import Finding
from gate_samples import report, result
from mutants import gate_cases, gate_judge
from mutants.models import Stock
from mutants.mutant import Ward

ROOT = Path(__file__).resolve().parents[2]
# of the profile "file": no weight is multiplied
SHORT = ("tensor_finite.nan_scale", "metadata_plausible.rope_theta", "chat_template.removed", "special_token_injection.always_parsed")  # fmt: skip


def test_every_gate_has_a_defect_and_no_case_stands_twice() -> None:
    cases = [*gate_cases.defects(), *gate_cases.sound()]
    names = {name.replace("-", "_") for name in _folder.names(apr.qa.gates.__name__)}
    assert {case.gate for case in gate_cases.defects()} == names
    assert len({case.id for case in cases}) == len(cases)
    assert all(bool(case.codes) != case.is_healthy for case in cases)


@pytest.mark.real
@pytest.mark.parametrize("name", SHORT)
def test_a_planted_defect_fails_its_gate(name: str, tmp_path: Path) -> None:
    case = next(case for case in gate_cases.defects() if case.id == name)
    ward = Ward(Stock(tmp_path / "stock"), tmp_path / "scratch")
    score = gate_judge.judge(dataclasses.replace(case, profile="file"), ward)
    assert score.is_right, f"wanted {sorted(case.codes)}; said {score.said}\n{score.error}"


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_promise_is_kept() -> None:
    done = subprocess.run([sys.executable, "benchmarks/gate_mutants.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


def case_of(gate: str, *codes: str) -> gate_cases.GateCase:
    return gate_cases.GateCase(gate, "x", frozenset(codes), lambda ward, name: None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("status", "code", "is_right"),
    [("fail", "zeros", True), ("fail", "other", False), ("undecided", "zeros", False), ("pass", "zeros", False)],
)
def test_a_defect_is_caught_by_its_gate_and_its_code_alone(status: str, code: str, is_right: bool) -> None:
    found = result("tensor_density", status, "m", Finding(status, code, "m"))  # type: ignore[arg-type]
    other = result("golden_output", "fail", "m", Finding("fail", "zeros", "m"))
    score = gate_judge.score(case_of("tensor_density", "zeros"), report(found, other, verdict="fail"), 1.0)
    assert score.is_right is is_right and score.others == ("golden_output fail",)


def test_a_healthy_model_passes_whole_or_counts_as_an_alarm() -> None:
    sound, warned = result("a", "pass", "well"), result("b", "fail", "slow", severity="P1")
    passed = gate_judge.score(case_of("healthy"), report(sound, verdict="pass"), 1.0)
    alarmed = gate_judge.score(case_of("healthy"), report(sound, warned, verdict="pass"), 1.0)
    assert passed.is_right and not alarmed.is_right and "b" in alarmed.others[0]
    assert [kept for *_, kept in gate_judge.verdicts([passed, alarmed])] == [False]
    assert [kept for *_, kept in gate_judge.verdicts([passed])] == [True]


def test_a_case_that_cannot_be_judged_is_a_miss(tmp_path: Path) -> None:
    ward = Ward(Stock(tmp_path / "stock"), tmp_path / "scratch")
    score = gate_judge.judge(case_of("vocabulary", "x"), ward)
    assert not score.is_right and score.error
