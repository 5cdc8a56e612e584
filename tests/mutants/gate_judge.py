"""Runs a profile of gates over one case and scores it: did the gate that knows the defect fail, with the right code?"""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from apr.qa import gate
from apr.qa.gate import GateResult, Report
from mutants.gate_cases import GateCase
from mutants.mutant import Ward

# what the bench promises, as shares
LEAST_CAUGHT = 0.99
MOST_ALARMS = 0.01


@dataclass(frozen=True)
class GateScore:
    """How the gates did on one case.

    is_right:  of a defect: its gate failed with one of its codes; of a healthy model: the verdict is a pass
    said:      code and message of the gate that counts
    others:    other gates that did not pass, as "id status"
    """

    id: str
    gate: str
    is_healthy: bool
    is_right: bool
    verdict: str
    said: str
    others: tuple[str, ...]
    seconds: float
    error: str = ""


def judge(case: GateCase, ward: Ward) -> GateScore:
    """Plant, run the whole profile, score, and clean up. An exception is a miss, with its traceback."""
    started = time.perf_counter()
    try:
        with case.make(ward, case.id) as judged:
            judged.profile = case.profile
            report = gate.run(case.profile, judged)
        return score(case, report, time.perf_counter() - started)
    except Exception as exc:  # noqa: BLE001 - gates must answer, whatever was planted
        seconds = time.perf_counter() - started
        said = f"{type(exc).__name__}: {exc}"
        return GateScore(case.id, case.gate, case.is_healthy, False, "none", said, (), seconds, traceback.format_exc())
    finally:
        shutil.rmtree(ward.folder(case.id), ignore_errors=True)


def score(case: GateCase, report: Report, seconds: float) -> GateScore:
    """Hold a report against what is known."""
    open_ = [result for result in report.gates if result.status not in ("pass", "skip")]
    if case.is_healthy:
        first = next(iter(open_), None)
        said = _said(first) if first is not None else f"{report.counts['pass']} gates pass"
        is_right = report.verdict == "pass" and not open_
    else:
        wanted = next(result for result in report.gates if result.id == case.gate)
        said = _said(wanted)
        found = {finding.code for finding in wanted.findings if finding.status == "fail"}
        is_right = wanted.status == "fail" and bool(found & case.codes)
    others = tuple(f"{result.id} {result.status}" for result in open_ if result.id != case.gate)
    return GateScore(case.id, case.gate, case.is_healthy, is_right, report.verdict, said, others, seconds)


def verdicts(scores: Sequence[GateScore]) -> list[tuple[str, float, float, bool]]:
    """(what, measured, promised, kept)"""
    rows = []
    defects = [s for s in scores if not s.is_healthy]
    healthy = [s for s in scores if s.is_healthy]
    if defects:
        share = sum(s.is_right for s in defects) / len(defects)
        rows.append(("defects that their gate fails", share, LEAST_CAUGHT, share >= LEAST_CAUGHT))
    if healthy:
        share = sum(not s.is_right for s in healthy) / len(healthy)
        rows.append(("healthy models that do not pass", share, MOST_ALARMS, share <= MOST_ALARMS))
    return rows


def _said(result: GateResult) -> str:
    return f"{result.status} {result.code}: {result.message}"
