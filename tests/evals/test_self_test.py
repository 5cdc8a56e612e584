"""The harness refuses to report when it cannot tell right from wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from apr.errors import ChecksumError, EngineError
from apr.evals import _extraction, _problems, _sandbox, _self_test, humaneval
from apr.evals._options import Options
from apr.evals._sandbox import Verdict
from eval_problems import DECODE, PROBLEMS, TOTAL

OPTIONS = Options(model="none", timeout_s=30.0)
JUDGES = {regime: humaneval._judge(regime, OPTIONS) for regime in OPTIONS.regimes}


def test_a_sound_harness_passes_its_own_test() -> None:
    seen = []
    found = _self_test.run(PROBLEMS, JUDGES, progress=lambda what, share: seen.append(share))
    assert dataclasses.astuple(found) == (4, 4, 4, 0, 6, 0) and seen[0] == 0.0


def test_a_harness_that_loses_the_imports_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_extraction, "answered", lambda prompt, answer, entry: _extraction.code_of(answer, entry))
    with pytest.raises(
        EngineError, match=r"Small/0, chat: its canonical solution does not pass \(exception: NameError"
    ):
        _self_test.run([TOTAL], JUDGES)


def test_a_harness_that_loses_the_helpers_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    source = _sandbox.judge
    monkeypatch.setattr(_sandbox, "judge", lambda program, **asked: source(program, **(asked | {"prelude": ""})))
    with pytest.raises(EngineError, match="Small/1, raw: its canonical solution does not pass"):
        _self_test.run([DECODE], {"raw": JUDGES["raw"]})


def test_a_harness_that_passes_everything_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sandbox, "judge", lambda program, **asked: Verdict("passed", "", 1, 0.0, {}))
    with pytest.raises(EngineError, match="an answer that is empty passes; no score is reported"):
        _self_test.run([TOTAL], JUDGES)


def test_a_harness_that_believes_an_exit_status_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    real = _sandbox.judge

    def believing(program: str, **asked: object) -> Verdict:
        verdict = real(program, **asked)  # type: ignore[arg-type]
        is_quiet_end = verdict.kind == "ended" or verdict.words.startswith("SystemExit: 0")
        return dataclasses.replace(verdict, kind="passed") if is_quiet_end else verdict

    monkeypatch.setattr(_sandbox, "judge", believing)
    with pytest.raises(EngineError, match="an answer that is cheating passes"):
        _self_test.run([TOTAL], JUDGES)


def test_a_sandbox_that_is_too_slow_for_its_limit_refuses() -> None:
    judge = humaneval._judge("raw", dataclasses.replace(OPTIONS, timeout_s=0.001))
    with pytest.raises(EngineError, match="timeout"):
        _self_test.run([TOTAL], {"raw": judge})


def test_another_file_of_problems_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "HumanEval.jsonl.gz"
    other.write_bytes(b"other")
    with pytest.raises(ChecksumError, match="expected of HumanEval"):
        _problems.read(other)


@pytest.mark.real
def test_the_real_problems_are_those_that_everybody_has() -> None:
    problems = _problems.load()
    assert len(problems) == 164 and problems[0].entry_point == "has_close_elements"
    lost = [p.id for p in problems if "import" in _extraction.preamble(p.prompt, p.entry_point)]
    assert len(lost) > 20, "problems that a lost import would fail"


@pytest.mark.real
@pytest.mark.slow
def test_every_canonical_solution_passes_and_no_empty_answer_does() -> None:
    found = _self_test.run(_problems.load(), JUDGES)
    assert (found.n_canonical_passed, found.n_empty_passed, found.n_cheating_passed) == (328, 0, 0)
