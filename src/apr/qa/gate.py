"""How gates work: a gate is a reason and a generator of findings; the runner turns findings into a verdict.

A gate that yields nothing is an error, not a pass; a crash inside a gate is an error; an `AprError` is a failure, but for
what is valid and not done here, which leaves the gate undecided; a skip is heavier than a pass, so
that nobody overlooks what was not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import apr.qa.gates
from apr import _folder
from apr.errors import AprError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from apr.qa._judged import Judged

Status = Literal["pass", "skip", "undecided", "fail", "error"]
WEIGHTS: tuple[Status, ...] = ("pass", "skip", "undecided", "fail", "error")  # lightest first; a gate's is its heaviest


@dataclass(frozen=True, slots=True)
class Coverage:
    """`n` of `n_all` of what there is to look at: "tensors", "prompts", "positions" …"""

    n: int
    n_all: int
    of: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a gate says.

    code:      stable, unique within the gate
    where:     tensor, key, offset, prompt, position … as far as known
    measure:   figures by name
    interval:  95 %, of the figure that the status was decided by; None where it is exact
    coverage:  how much was looked at of how much there is; None where it is all
    """

    status: Status
    code: str
    message: str
    where: dict[str, Any] = field(default_factory=dict)
    measure: dict[str, Any] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    coverage: Coverage | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's outcome: the heaviest of its findings, and all of them.

    message:            of that finding; of a pass, all that was found
    measure, interval:  of that finding
    coverage:           the least of its findings
    """

    id: str
    status: Status
    code: str
    message: str
    findings: tuple[Finding, ...]
    rationale: str
    source: str
    severity: str
    seconds: float
    measure: dict[str, Any] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    coverage: Coverage | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a profile.

    verdict:     fail before error before undecided; pass only if nothing failed and as many gates were executed as the
                 profile demands. A gate that warns (P1) and fails leaves the verdict as it is.
    n_executed:  gates that came to a result; a skip is none
    minimum:     how many the profile demands
    model_sha256, computed_by: of the model's files, and engine, version, instruction set, activations and threads;
                 null where nothing was run
    """

    subject: str
    model_sha256: str | None
    computed_by: str | None
    reference: str | None
    profile: str
    verdict: Status
    counts: dict[Status, int]
    n_executed: int
    minimum: int
    gates: tuple[GateResult, ...]
    seconds: float
    exit_code: int
    schema: str


Check = Callable[["Judged"], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate as its file declares it.

    rationale:  why a defect of this kind hurts
    source:     the text that says what is right
    severity:   P0 blocks a release, P1 warns
    profiles:   where it belongs: "file" needs no engine, "smoke" takes seconds, "release" minutes
    is_last:    it looks at what the others came to (`Judged.results`)
    """

    check: Check
    rationale: str
    source: str
    severity: Literal["P0", "P1"]
    profiles: tuple[str, ...]
    is_last: bool = False


def gate(
    *, rationale: str, source: str, severity: Literal["P0", "P1"], profiles: tuple[str, ...], is_last: bool = False
) -> Callable[[Check], Gate]:
    """Declare a gate: the decorator of the function `check` in a file of `qa/gates`."""
    return lambda check: Gate(check, rationale, source, severity, profiles, is_last)


@dataclass(frozen=True, slots=True)
class Profile:
    """A set of gates: those that name it.

    minimum:  gates that must come to a result, skips apart, before the verdict can be a pass
    """

    schema: str
    minimum: int


PROFILES = {
    "file": Profile("apr.validate/1", 1),
    "smoke": Profile("apr.qa/1", 8),
    "release": Profile("apr.qa/1", 14),
}


def run(
    profile: str,
    judged: Judged,
    *,
    only: Sequence[str] = (),
    progress: Callable[[str, float], None] | None = None,
) -> Report:
    """Run every gate of a profile over a model; those that need no engine first, those that look at the others last.

    only:      ids of gates; the others of the profile are not run, and the minimum is not asked for
    progress:  called with the gate under way and the share of gates done
    Raises     UsageError for a gate that the profile has not.
    """
    started = time.perf_counter()
    declared = _gates(profile, only)
    results = []
    for done, (name, gate_) in enumerate(declared):
        if progress is not None:
            progress(name, done / len(declared))
        results.append(_run_one(name, gate_, judged))
        judged.results = tuple(results)
    counts: dict[Status, int] = {status: sum(r.status == status for r in results) for status in WEIGHTS}
    n_executed = len(results) - counts["skip"]
    minimum = 0 if only else PROFILES[profile].minimum
    verdict = _verdict(results, n_executed, minimum)
    return Report(
        subject=judged.model.name,
        model_sha256=judged.sha256 if profile != "file" else None,
        computed_by=judged.computed_by,
        reference=judged.reference.name if judged.reference is not None else None,
        profile=profile,
        verdict=verdict,
        counts=counts,
        n_executed=n_executed,
        minimum=minimum,
        gates=tuple(results),
        seconds=time.perf_counter() - started,
        exit_code={"pass": 0, "fail": 1, "error": 4, "undecided": 5, "skip": 5}[verdict],
        schema=PROFILES[profile].schema,
    )


def _gates(profile: str, only: Sequence[str]) -> list[tuple[str, Gate]]:
    folder = apr.qa.gates.__name__
    found: dict[str, Gate] = {
        name.replace("-", "_"): _folder.load(folder, name).check for name in _folder.names(folder)
    }
    belong = {name: gate_ for name, gate_ in found.items() if profile in gate_.profiles}
    wanted = [name.replace("-", "_") for name in only]
    for name in wanted:
        if name not in belong:
            raise UsageError(f"the profile {profile} has no gate {name!r}; it has {', '.join(belong)}")
    chosen = [(name, gate_) for name, gate_ in belong.items() if not wanted or name in wanted]
    return sorted(chosen, key=lambda pair: (pair[1].is_last, "file" not in pair[1].profiles))


def _verdict(results: Sequence[GateResult], n_executed: int, minimum: int) -> Status:
    blocking = {r.status for r in results if r.severity == "P0"} | ({"error"} & {r.status for r in results})
    heavy: tuple[Status, ...] = ("fail", "error", "undecided")
    for status in heavy:
        if status in blocking:
            return status
    if not n_executed:
        return "skip"
    return "pass" if n_executed >= minimum else "undecided"


def _run_one(name: str, declared: Gate, judged: Judged) -> GateResult:
    started = time.perf_counter()
    findings: list[Finding] = []  # what was found before an exception stands
    try:
        for finding in declared.check(judged):
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
    like_it = [f.message for f in findings if f.status == worst.status]
    if worst.status == "pass":
        message = "; ".join(like_it)
    else:
        message = like_it[0] if len(like_it) == 1 else f"{len(like_it)} findings, first: {like_it[0]}"
    partial = [f.coverage for f in findings if f.coverage is not None]
    return GateResult(
        id=name,
        status=worst.status,
        code=worst.code,
        message=message,
        findings=tuple(findings),
        rationale=declared.rationale,
        source=declared.source,
        severity=declared.severity,
        seconds=time.perf_counter() - started,
        measure=worst.measure,
        interval=worst.interval,
        coverage=min(partial, key=lambda c: c.n / max(1, c.n_all)) if partial else None,
    )
