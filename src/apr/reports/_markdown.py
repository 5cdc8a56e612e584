"""`apr contract verify` as Markdown, for the page of a job in continuous integration.

Whatever comes from a contract or a model is escaped: it can end no cell, begin no line, and become no HTML, link or image.
"""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from apr import _atomic
from apr.reports._marks import MARKS
from apr.reports._promises import _counted
from apr.reports.text import visible

if TYPE_CHECKING:
    from apr.ledger.verify import Row, Verdict, VerifyReport

_VERDICT_MARKS: dict[Verdict, str] = {"kept": "✓", "broken": "✗", "open": "?", "error": "!"}
# CommonMark 0.31, section 2.4: any of these stands for itself behind a backslash; `:` and `@` make links in GitHub's dialect
_SPECIAL = re.compile(r"[\\`*_{}\[\]()#+!|~:@]")


def verified(report: VerifyReport) -> str:
    """The verdict, a test a row, and of each that is not kept what was promised and the command that shows it."""
    sides = [f"model {escaped(report.model)}"]
    if report.reference is not None:
        sides.append(f"reference {escaped(report.reference)}")
    sides.append("contracts " + ", ".join(map(escaped, report.contracts)))
    lines = [
        f"### {_VERDICT_MARKS[report.verdict]} {report.verdict}: {_counted(report.counts)}",
        "",
        ", ".join(sides),
        "",
        "| | test | found |",
        "|---|---|---|",
        *(_row(row) for row in report.rows),
        "",
    ]
    for row in report.rows:
        if row.status != "pass" and row.command:
            promised = f": {escaped(row.prediction)}" if row.prediction else ""
            lines += [f"**{escaped(row.id)}**{promised}", "", f"    {visible(shlex.join(row.command))}", ""]
    lines += [f"evidence: {escaped(str(report.evidence))}; {report.seconds:.0f} s"]
    return "\n".join(lines) + "\n"


def save(report: VerifyReport, path: Path) -> None:
    """Write a report to a file, whole or not at all. Raises UsageError for a folder or a link; OSError."""
    _atomic.write_bytes(path, verified(report).encode("utf-8"))


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    # the references to characters that html.escape makes are not escaped again: none of their characters is special here
    return html.escape(_SPECIAL.sub(r"\\\g<0>", visible(text)), quote=False)


def _row(row: Row) -> str:
    mark, _ = MARKS[row.status]
    said = escaped(row.sentence) + ("" if row.blocking else " (blocks nothing)")
    return f"| {mark} {row.status.replace('_', ' ')} | {escaped(row.id)} | {said} |"
