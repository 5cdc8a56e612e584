"""The page of `apr qa`: what a release manager reads before signing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apr.reports import _gates, _html_page
from apr.reports._marks import MARKS

if TYPE_CHECKING:
    from apr.qa.gate import GateResult, Report

# what a page shows of the findings of a gate; the data in it has all
FINDINGS = 20
_WORDS = {
    "pass": "Fit for release",
    "fail": "Not fit for release",
    "undecided": "Not decided",
    "error": "Not judged",
    "skip": "Nothing tested",
}
_SMOKE_WORDS = {"pass": "No fault found", "fail": "A fault was found"}


def page(report: Report) -> str:
    """A report as HTML."""
    words = _WORDS if report.profile == "release" else _WORDS | _SMOKE_WORDS
    return _html_page.render(
        "_gates.html.j2",
        report,
        title=f"apr qa: {report.subject}",
        headline=words[report.verdict],
        line=_gates.verdict_line(report),
        counts=[(status, n) for status, n in reversed(report.counts.items())],
        blocking=[r for r in report.gates if r.severity == "P0" and r.status in ("fail", "error", "undecided")],
        warnings=[r for r in report.gates if r.severity == "P1" and r.status in ("fail", "undecided")],
        skipped=[r for r in report.gates if r.status == "skip"],
        gates=[_shown(result) for result in report.gates],
        next_command=_gates.next_command(report),
        marks={status: mark for status, (mark, _) in MARKS.items()},
        n_findings=FINDINGS,
    )


def _shown(result: GateResult) -> dict[str, Any]:
    return {
        "result": result,
        "covered": "–" if result.status in ("skip", "error") else _gates.covered(result.coverage) or "all",
        "told": _gates.told(result),
        "measure": [(name, value) for name, value in result.measure.items() if isinstance(value, int | float | str)],
    }
