"""`apr ship`, as text for a person: the figure, a criterion a row, what changed since last time, what to type next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from apr.reports._marks import MARKS
from apr.reports._style import Style, paint
from apr.reports._table import facts, hanging, width
from apr.reports.text import visible

if TYPE_CHECKING:
    from apr.ledger.ship import Change, Criterion, ShipModel, ShipReport, Verdict

_VERDICTS: Mapping[Verdict, Style] = {"ship": "green", "hold": "red", "open": "yellow"}


def ship(report: ShipReport) -> str:
    """The release, model by model, then the figure and what follows from it."""
    blocks = [_model(model) for model in report.models]
    if report.changes:
        blocks.append(
            "\n".join([f"since {shown_time(report.since)}", *(f"  {changed(one)}" for one in report.changes)])
        )
    lines = [f"{paint('evidence', 'red')}: {visible(problem)}" for problem in report.problems]
    lines += [paint(visible(note), "dim") for note in report.notes]
    lines.append(f"{paint(report.verdict, _VERDICTS[report.verdict])}: {figure_line(report)}")
    command = next_command(report)
    lines += [f"next: {visible(command)}"] if command else []
    return "\n\n".join([*blocks, "\n".join(lines)])


def figure_line(report: ShipReport) -> str:
    """The figure with what it is made of."""
    n = sum(report.counts.values())
    others = [f"{count} {word(status)}" for status, count in report.counts.items() if count and status != "discharged"]
    return f"{percent(report.figure)}, {report.counts['discharged']} of {n} criteria discharged" + "".join(
        f", {one}" for one in others
    )


def percent(figure: float) -> str:
    """A figure as it is read, rounded down: 100 % is all of it."""
    return f"{math.floor(100 * figure + 1e-9)} %"


def word(status: str) -> str:
    """A status as it is read."""
    return status.replace("_", " ")


def changed(change: Change) -> str:
    """One change in words."""
    of = visible(change.of)
    if change.before is None or change.after is None:
        said = f"{change.what} {word(visible(change.after or change.before or ''))}"
        return f"{of}: new, {said}" if change.before is None else f"{of}: not in the plan any more, it was {said}"
    named = "" if change.what == "status" else f"{change.what} "
    before, after = (
        visible(one)[:16] if change.what == "tensors" else word(visible(one)) for one in (change.before, change.after)
    )
    return f"{of}: {named}{before} → {after}"


def shown_time(at: str | None) -> str:
    """A time as it is read: 2026-11-22 08:10 UTC."""
    return f"{visible(at)[:16].replace('T', ' ')} UTC" if at else ""


def said(criterion: Criterion) -> str:
    """The promise, and, of one that is not kept, why it does not count."""
    return criterion.statement + ("" if criterion.status == "discharged" else f": {criterion.sentence}")


def next_command(report: ShipReport) -> str:
    """What to type next; empty where nothing is missing."""
    store = "" if report.folder == Path("evidence") else f" --store {shlex.quote(str(report.folder))}"
    if report.problems:
        return f"apr evidence verify{store}"
    for model in report.models:
        if model.problem is not None:
            return f"apr pull {shlex.quote(model.model)}"
        if any(one.status in ("not_run", "expired", "partial", "undecided") for one in model.criteria):
            contracts = "".join(f" --contract {shlex.quote(str(path))}" for path in model.contracts)
            reference = f" --reference {shlex.quote(model.reference)}" if model.reference is not None else ""
            return f"apr contract verify {shlex.quote(model.model)}{contracts}{reference}{store}"
    return ""


def _model(model: ShipModel) -> str:
    head = [(visible(model.id), f"{visible(model.model)}, {percent(model.figure)}")]
    word_width = max(len(one.status) for one in model.criteria)
    label = max(width(visible(one.id)) for one in model.criteria)
    lines = [facts(head)]
    if model.problem is not None:
        lines.append(f"  {paint('!', 'red')} {visible(model.problem)}")
    lines += [_row(one, word_width, label) for one in model.criteria]
    if model.uncounted:
        lines.append(paint(f"  no criterion counts {', '.join(map(visible, model.uncounted))}", "dim"))
    return "\n".join(lines)


def _row(criterion: Criterion, word_width: int, label: int) -> str:
    mark, style = MARKS[criterion.status]
    shown = f"{mark} {word(criterion.status):<{word_width}}"
    head = f"  {paint(shown, style)}  {visible(criterion.id):<{label}}  "
    runs = list(dict.fromkeys(test.run for test in criterion.tests if test.run is not None))
    text = visible(said(criterion)) + ("" if criterion.blocking else " (blocks nothing)")
    text += f" ({', '.join(runs)})" if runs else ""
    return hanging(head, text, before=2 + 2 + word_width + 2 + label + 2)
