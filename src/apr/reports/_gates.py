"""Verdicts of gates, `apr validate` and `apr qa`, as text for a person; and what their page shares with it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from apr.reports._marks import MARKS
from apr.reports._style import paint
from apr.reports._table import facts, hanging, width
from apr.reports.text import _plural, visible

if TYPE_CHECKING:
    from apr.qa.gate import Coverage, GateResult, Report

_FINDINGS_SHOWN = 10


def gates(report: Report) -> str:
    """The model, a gate a row with what it found, the verdict, and what to type next."""
    label = max((width(result.id) for result in report.gates), default=0)
    lines = [_head(report)]
    for result in report.gates:
        lines.append(_row(result, label))
        lines += _findings(result)
    if report.profile != "file":
        lines.append("")
    lines.append(f"{paint(report.verdict, MARKS[report.verdict][1])}: {verdict_line(report)}")
    command = next_command(report)
    return "\n".join(lines) + (f"\nnext: {command}" if command else "")


def verdict_line(report: Report) -> str:
    """The verdict of all gates, in words."""
    counted = [f"{n} {status}" for status, n in report.counts.items() if n]
    said = _plural(len(report.gates), "gate") + (f", {', '.join(counted)}" if counted else "")
    warned = [r.id for r in report.gates if r.severity == "P1" and r.status == "fail"]
    if warned:
        said += f"; {', '.join(warned)} {'warns' if len(warned) == 1 else 'warn'} and blocks nothing"
    if report.n_executed < report.minimum:
        said += f"; {report.n_executed} came to a result, the profile {report.profile} demands {report.minimum}"
    return f"{said}; {report.seconds:.1f} s" if report.profile != "file" else said


def covered(coverage: Coverage | None) -> str:
    """How much was looked at; empty if it was all."""
    if coverage is None or coverage.n >= coverage.n_all:
        return ""
    return f"{coverage.n} of {coverage.n_all} {visible(coverage.of)}"


def told(result: GateResult) -> list[str]:
    """What a gate found beside the sentence that stands for it, each with its status."""
    found = [finding for finding in result.findings if finding.status != "pass"]
    if len(found) == 1 and found[0].message == result.message:
        return []
    return [f"{finding.status}: {visible(finding.message)}" for finding in found]


def next_command(report: Report) -> str | None:
    """What to type after this report; None if there is nothing to ask."""
    if report.profile == "file" or report.verdict in ("pass", "skip"):
        return None
    model = visible(shlex.quote(report.subject))
    if report.reference is not None:
        return f"apr why {visible(shlex.quote(report.reference))} {model}"
    return f"apr why {model}"


def _head(report: Report) -> str:
    if report.profile == "file":
        return paint(visible(report.subject), "bold")
    rows = [("model", visible(report.subject))]
    if report.model_sha256 is not None:
        rows.append(("SHA-256", report.model_sha256))
    rows.append(("reference", visible(report.reference) if report.reference is not None else "none given or found"))
    if report.computed_by is not None:
        rows.append(("computed by", visible(report.computed_by)))
    rows.append(("profile", report.profile))
    return facts(rows) + "\n"


def _row(result: GateResult, label: int) -> str:
    mark, style = MARKS[result.status]
    head = f"  {paint(f'{mark} {result.status:<9}', style)} {result.id:<{label}}  "
    before = 2 + 2 + 9 + 1 + label + 2
    said = visible(result.message)
    if (share := covered(result.coverage)) and share not in said:
        said += f" ({share})"
    return hanging(head, said, before=before)


def _findings(result: GateResult) -> list[str]:
    found: Sequence[str] = told(result)
    lines = [f"      {sentence}" for sentence in found[:_FINDINGS_SHOWN]]
    if len(found) > _FINDINGS_SHOWN:
        lines.append(f"      and {len(found) - _FINDINGS_SHOWN} more; --json has them all")
    return lines
