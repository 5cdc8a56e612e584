"""`apr contract verify` and `status`, as text for a person: what came of each promise, and where the evidence is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from apr.reports._marks import MARKS
from apr.reports._style import Style, paint
from apr.reports._table import facts, hanging, width
from apr.reports.text import visible

if TYPE_CHECKING:
    from apr.ledger.standing import StatusReport, Word
    from apr.ledger.verify import Status, Verdict, VerifyReport

_VERDICTS: Mapping[Verdict, Style] = {"kept": "green", "broken": "red", "open": "yellow", "error": "red"}


def verified(report: VerifyReport) -> str:
    """The model, a test a row with what came of it, the verdict, the evidence."""
    head = [("model", visible(report.model)), ("contracts", ", ".join(map(visible, report.contracts)))]
    if report.reference is not None:
        head.insert(1, ("reference", visible(report.reference)))
    rows = [(row.status, row.id, row.sentence, row.blocking) for row in report.rows]
    said = f"{paint(report.verdict, _VERDICTS[report.verdict])}: {_counted(report.counts)}; {report.seconds:.0f} s"
    lines = [facts(head), "", *_rows(rows), "", said, f"evidence: {visible(str(report.evidence))}"]
    return "\n".join(lines)


def stands(report: StatusReport) -> str:
    """The model, a test a row with how it stands, the counts, what to type next."""
    head = [
        ("model", visible(report.model)),
        ("contracts", ", ".join(map(visible, report.contracts))),
        ("evidence", visible(str(report.folder))),
    ]
    rows = [
        (row.word, row.id, row.sentence + (f" ({row.run})" if row.run else ""), row.blocking) for row in report.rows
    ]
    lines = [facts(head), "", *_rows(rows), ""]
    lines += [f"{paint('evidence', 'red')}: {visible(problem)}" for problem in report.problems]
    lines.append(_counted(report.counts))
    if report.problems:
        lines.append(f"next: apr evidence verify --store {visible(shlex.quote(str(report.folder)))}")
    elif report.exit_code == 5:
        lines.append(f"next: apr contract verify {visible(shlex.quote(report.model))}")
    return "\n".join(lines)


def _counted(counts: Mapping[Status, int] | Mapping[Word, int]) -> str:
    return ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in counts.items() if n)


def _rows(rows: Sequence[tuple[Status | Word, str, str, bool]]) -> list[str]:
    word_width = max(len(word) for word, *_ in rows)
    label = max(width(name) for _, name, _, _ in rows)
    return [_row(*row, word_width, label) for row in rows]


def _row(word: Status | Word, name: str, sentence: str, is_blocking: bool, word_width: int, label: int) -> str:
    mark, style = MARKS[word]
    shown = word.replace("_", " ")
    said = visible(sentence) + ("" if is_blocking else " (blocks nothing)")
    head = f"  {paint(f'{mark} {shown:<{word_width}}', style)}  {visible(name):<{label}}  "
    before = 2 + 2 + word_width + 2 + label + 2
    return hanging(head, said, before=before)
