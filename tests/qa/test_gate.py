"""The runner: verdicts, and what it does with gates that crash, say nothing or raise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny
from apr import _folder
from apr.errors import ChecksumMismatch, MissingTensor, UnsupportedError
from apr.qa import gate
from apr.qa._judged import Judged
from apr.qa.gate import Finding, Report

PASS = Finding("pass", "good", "all well")
FAIL = Finding("fail", "bad", "not well")
SKIP = Finding("skip", "none", "nothing to look at")
UNDECIDED = Finding("undecided", "unclear", "cannot tell")


def yielding(*findings: Finding) -> Callable[[Judged], Iterator[Finding]]:
    return lambda subject: iter(findings)


def raising(error: Exception, *before: Finding) -> Callable[[Judged], Iterator[Finding]]:
    def check(subject: Judged) -> Iterator[Finding]:
        yield from before
        raise error

    return check


@pytest.fixture
def run_gates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Report]:
    """Run gates that are given as functions, named a, b, c ..., over a tiny model."""

    def run(*checks: Any, profile: str = "file") -> Report:
        declared = {
            name: gate.gate(rationale="why", source="what", severity="P0", profiles=("file",))(check)
            for name, check in zip("abcdef", checks, strict=False)
        }
        registry = SimpleNamespace(
            names=lambda _: list(declared), load=lambda _, name: SimpleNamespace(check=declared[name])
        )
        monkeypatch.setattr(gate, "_folder", registry)
        with Judged(path) as subject:
            return gate.run(profile, subject)

    path = tiny.write(tmp_path, "gguf")
    return run


@pytest.mark.parametrize(
    ("findings", "verdict", "exit_code"),
    [
        ((PASS,), "pass", 0),
        ((PASS, SKIP), "pass", 0),
        ((SKIP,), "skip", 5),
        ((SKIP, SKIP), "skip", 5),
        ((PASS, UNDECIDED), "undecided", 5),
        ((PASS, SKIP, UNDECIDED, FAIL), "fail", 1),
    ],
)
def test_the_verdict_over_several_gates(
    findings: tuple[Finding, ...], verdict: str, exit_code: int, run_gates: Any
) -> None:
    report = run_gates(*map(yielding, findings))
    assert (report.verdict, report.exit_code) == (verdict, exit_code)
    assert report.counts == {s: sum(f.status == s for f in findings) for s in gate.WEIGHTS}
    assert [g.id for g in report.gates] == list("abcdef"[: len(findings)])


def test_an_error_outweighs_undecided_and_a_failure_outweighs_an_error(run_gates: Any) -> None:
    crash = raising(ZeroDivisionError())
    assert (run_gates(crash, yielding(UNDECIDED)).verdict, run_gates(crash, yielding(UNDECIDED)).exit_code) == (
        "error",
        4,
    )
    assert (run_gates(crash, yielding(FAIL)).verdict, run_gates(crash, yielding(FAIL)).exit_code) == ("fail", 1)


def test_no_gate_at_all_is_not_a_pass(run_gates: Any) -> None:
    report = run_gates(yielding(PASS), profile="smoke")
    assert (report.verdict, report.exit_code, report.gates) == ("skip", 5, ())


@pytest.mark.parametrize(
    ("findings", "worst"),
    [((PASS, FAIL, PASS), FAIL), ((SKIP, PASS), SKIP), ((UNDECIDED, SKIP), UNDECIDED), ((FAIL, UNDECIDED), FAIL)],
)
def test_a_gate_is_its_heaviest_finding(findings: tuple[Finding, ...], worst: Finding, run_gates: Any) -> None:
    result = run_gates(yielding(*findings)).gates[0]
    assert (result.status, result.code, result.message) == (worst.status, worst.code, worst.message)
    assert result.findings == findings and result.rationale == "why" and result.severity == "P0"


def test_several_findings_of_one_weight_are_counted(run_gates: Any) -> None:
    assert run_gates(yielding(FAIL, FAIL, PASS)).gates[0].message == "2 findings, first: not well"


def test_a_gate_that_says_nothing_is_an_error(run_gates: Any) -> None:
    result = run_gates(yielding()).gates[0]
    assert (result.status, result.code) == ("error", "vacuous")


def test_a_crash_is_that_gates_error_and_the_others_go_on(run_gates: Any) -> None:
    report = run_gates(raising(KeyError("x"), PASS), yielding(PASS))
    assert [(g.status, g.code) for g in report.gates] == [("error", "crash"), ("pass", "good")]
    assert "KeyError" in report.gates[0].message and report.gates[0].findings[0] == PASS


@pytest.mark.parametrize("error", [ChecksumMismatch("f", "wrong", offset=4), MissingTensor("gone")])
def test_an_error_that_the_user_can_act_on_is_a_failure_with_its_code(error: Any, run_gates: Any) -> None:
    result = run_gates(raising(error)).gates[0]
    assert (result.status, result.code, result.message) == ("fail", error.code, str(error))


def test_what_is_valid_and_not_done_here_leaves_the_gate_undecided(run_gates: Any) -> None:
    report = run_gates(raising(UnsupportedError("mamba")), yielding(PASS))
    assert (report.gates[0].status, report.gates[0].code, report.exit_code) == ("undecided", "unsupported-error", 5)


def test_what_was_found_before_an_error_stands(run_gates: Any) -> None:
    result = run_gates(raising(UnsupportedError("mamba"), FAIL)).gates[0]
    assert (result.status, result.code) == ("fail", "bad") and len(result.findings) == 2


def test_an_interruption_is_not_swallowed(run_gates: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_gates(raising(KeyboardInterrupt()))  # type: ignore[arg-type]


def test_every_gate_of_the_folder_declares_itself() -> None:
    names = _folder.names("apr.qa.gates")
    assert names == [
        "adversarial-prompts",
        "chat-template",
        "degeneration",
        "determinism",
        "file-structure",
        "format-parity",
        "golden-output",
        "long-context",
        "metadata-plausible",
        "python-syntax",
        "regression",
        "special-token-injection",
        "stop-tokens",
        "tensor-contract",
        "tensor-density",
        "tensor-finite",
        "throughput",
        "tokenizer-roundtrip",
        "vocabulary",
    ]
    for name in names:
        declared = _folder.load("apr.qa.gates", name).check
        assert declared.rationale.endswith(".") and declared.source
        assert declared.profiles and set(declared.profiles) <= set(gate.PROFILES)
        assert declared.check.__doc__
