"""`apr contract`, as text for a person: findings as compilers write them, and what a version promises less."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apr.reports._style import Style, paint
from apr.reports._table import hanging, table, width
from apr.reports.text import _plural, visible

if TYPE_CHECKING:
    from apr.ledger._diff import ContractDiff, Difference
    from apr.ledger._diff import Kind as DifferenceKind
    from apr.ledger._lint import LintReport
    from apr.ledger._rules import Severity

_SEVERITIES: dict[Severity, Style] = {"error": "red", "warning": "yellow"}
_MARKS: dict[DifferenceKind, tuple[str, Style]] = {
    "weakened": ("✗", "red"),
    "changed": ("?", "yellow"),
    "strengthened": ("↑", "green"),
    "added": ("+", "green"),
    "reworded": ("~", "dim"),
}


def linted(report: LintReport) -> str:
    """Every finding with its place and rule, the contracts, the verdict."""
    lines = [
        f"{visible(one.path)}:{one.line}: {paint(one.severity, _SEVERITIES[one.severity])} {one.rule} {visible(one.message)}"
        for one in report.findings
    ]
    if report.contracts:
        lines += ["", _contracts(report)] if lines else [_contracts(report)]
    return "\n".join([*lines, "", _verdict(report)] if report.contracts else lines)


def difference(report: ContractDiff) -> str:
    """The step, what is promised less, and the rest."""
    head = f"{paint(visible(report.id), 'bold')}: {visible(report.old_version)} → {visible(report.new_version)}"
    lines = [head, ""]
    label = max((width(one.kind) for one in report.differences), default=0)
    lines += [_row(one, label) for one in report.differences] or ["  the two promise the same"]
    weakened = f"{_plural(report.n_weakened, 'promise')} weakened" if report.n_weakened else "nothing is promised less"
    verdict = paint(weakened, "red" if report.n_weakened else "green")
    return "\n".join([*lines, "", f"{verdict}; {_step(report)}"])


def _contracts(report: LintReport) -> str:
    rows = []
    for one in report.contracts:
        counts = [
            (one.n_checks, "run here"),
            (one.n_elsewhere, "elsewhere"),
            (one.n_pending, "pending"),
            (one.n_unbound, "bound to nothing"),
        ]
        tests = ", ".join(f"{n} {what}" for n, what in counts if n) or "none"
        rows.append((visible(one.id), visible(one.version) or "-", visible(one.status) or "-", tests))
    return table(("CONTRACT", "VERSION", "STATUS", "TESTS"), rows)


def _verdict(report: LintReport) -> str:
    said = f"{_plural(len(report.contracts), 'contract')}, {_plural(report.n_errors, 'error')}"
    if report.n_warnings:
        said += f", {_plural(report.n_warnings, 'warning')}"
    return f"{paint('fail', 'red') if report.n_errors else paint('pass', 'green')}: {said}"


def _row(one: Difference, label: int) -> str:
    mark, style = _MARKS[one.kind]
    head = f"  {paint(f'{mark} {one.kind:<{label}}', style)}  "
    before = 2 + 2 + label + 2
    return hanging(head, visible(one.sentence), before=before)


def _step(report: ContractDiff) -> str:
    asked = f"the changes ask for {'none' if report.needed == 'none' else report.needed.upper()}"
    if report.fit == "unknown":
        return f"the versions cannot be compared, and {asked}"
    if report.fit == "backwards":
        return f"the version goes backwards, and {asked}"
    step = "the version stays" if report.bump == "none" else f"the version step is {report.bump.upper()}"
    return f"{step}, {report.fit}: {asked}"
