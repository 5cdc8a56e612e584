"""How gates work: a gate is a reason and a generator of findings; the runner turns findings into a verdict.

A gate that yields nothing is an error, not a pass; a crash inside a gate is an error; an `AprError` is a failure, but for
what is valid and not done here, which leaves the gate undecided; a skip is heavier than a pass, so
that nobody overlooks what was not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import apr.qa.gates
from apr import _folder
from apr.errors import AprError, UnsupportedError

if TYPE_CHECKING:
    from apr.qa._subject import Subject

Status = Literal["pass", "skip", "undecided", "fail", "error"]
WEIGHTS: tuple[Status, ...] = ("pass", "skip", "undecided", "fail", "error")  # lightest first; a gate's is its heaviest


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a gate says.

    code:   stable, unique within the gate
    where:  tensor, key, offset … as far as known
    """

    status: Status
    code: str
    message: str
    where: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's outcome: the heaviest of its findings, and all of them."""

    id: str
    status: Status
    code: str
    message: str
    findings: tuple[Finding, ...]
    rationale: str
    severity: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a profile. verdict: fail before error before undecided; pass only if something passed and nothing failed."""

    subject: str
    profile: str
    verdict: Status
    counts: dict[Status, int]
    gates: tuple[GateResult, ...]
    exit_code: int
    schema: str = field(default="apr.validate/1")


Check = Callable[["Subject"], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate as its file declares it.

    rationale:  why a defect of this kind hurts
    source:     the text that says what is right
    severity:   P0 blocks a release, P1 warns
    profiles:   where it belongs: "file" needs no engine
    """

    check: Check
    rationale: str
    source: str
    severity: Literal["P0", "P1"]
    profiles: tuple[str, ...]


def gate(
    *, rationale: str, source: str, severity: Literal["P0", "P1"], profiles: tuple[str, ...]
) -> Callable[[Check], Gate]:
    """Declare a gate: the decorator of the function `check` in a file of `qa/gates`."""
    return lambda check: Gate(check, rationale, source, severity, profiles)


def run(profile: str, subject: Subject, *, progress: Callable[[int], None] | None = None) -> Report:
    """Run every gate of a profile over a subject. `progress` is called with bytes of tensors checked."""
    subject.progress = progress
    results = []
    for name in _folder.names(apr.qa.gates.__name__):
        declared: Gate = _folder.load(apr.qa.gates.__name__, name).check
        if profile in declared.profiles:
            results.append(_run_one(name.replace("-", "_"), declared, subject))
    counts: dict[Status, int] = {status: sum(r.status == status for r in results) for status in WEIGHTS}
    verdict = _verdict(counts)
    exit_code = {"pass": 0, "fail": 1, "error": 4, "undecided": 5, "skip": 5}[verdict]
    return Report(str(subject.path), profile, verdict, counts, tuple(results), exit_code)


def _verdict(counts: dict[Status, int]) -> Status:
    heavy: tuple[Status, ...] = ("fail", "error", "undecided")
    for status in heavy:
        if counts[status]:
            return status
    return "pass" if counts["pass"] else "skip"


def _run_one(name: str, declared: Gate, subject: Subject) -> GateResult:
    started = time.perf_counter()
    findings: list[Finding] = []  # what was found before an exception stands
    try:
        for finding in declared.check(subject):
            findings.append(finding)
    except UnsupportedError as exc:
        findings.append(Finding("undecided", exc.code, str(exc)))  # valid and not done here: no defect of the file
    except AprError as exc:
        findings.append(Finding("fail", exc.code, str(exc)))
    except Exception as exc:  # noqa: BLE001 - a crash in one gate is that gate's error and no other's
        findings.append(Finding("error", "crash", f"the gate itself failed: {type(exc).__name__}: {exc}"))
    if not findings:
        findings.append(Finding("error", "vacuous", "the gate looked at nothing"))
    worst = max(findings, key=lambda finding: WEIGHTS.index(finding.status))
    n_like_it = sum(f.status == worst.status for f in findings)
    message = (
        worst.message if n_like_it == 1 or worst.status == "pass" else f"{n_like_it} findings, first: {worst.message}"
    )
    seconds = time.perf_counter() - started
    return GateResult(
        name, worst.status, worst.code, message, tuple(findings), declared.rationale, declared.severity, seconds
    )
