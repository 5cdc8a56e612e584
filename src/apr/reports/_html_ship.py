"""The page of `apr ship`: what a team looks at each morning. Criteria, statuses, evidence, what changed since last time."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from apr.ledger import ship
from apr.reports import _html_page, _ship
from apr.reports._marks import MARKS

if TYPE_CHECKING:
    from apr.ledger.ship import Criterion, Past, ShipModel, ShipReport
    from apr.ledger.standing import Standing

_HEADLINES = {"ship": "Ready to be handed out", "hold": "Not to be handed out", "open": "Not all of it is shown"}
# of the pieces of the bar
_ORDER = ("discharged", "failed", "blocked", "undecided", "expired", "partial", "not_run")
_WIDTH, _HEIGHT, _LEFT, _BASE = 980, 96, 44, 80  # of the curve; where its plot begins and ends


def page(report: ShipReport, *, at: Path) -> str:
    """A report as HTML. at: the folder that the page will lie in, from which it links to the evidence."""
    return _html_page.render(
        "_ship.html.j2",
        report,
        title=f"apr ship: {report.plan.name}",
        headline=_HEADLINES[report.verdict],
        line=_ship.figure_line(report),
        since=_ship.shown_time(report.since),
        changes=[_ship.changed(change) for change in report.changes],
        models=[_model(model, at) for model in report.models],
        meter=_meter([one for model in report.models for one in model.criteria]),
        curve=_curve(report.history),
        next_command=_ship.next_command(report),
        marks={status: MARKS[status][0] for status in ship.STATUSES},
        word=_ship.word,
        evidence=_link(report.folder, at),
    )


def _model(model: ShipModel, at: Path) -> dict[str, Any]:
    return {
        "model": model,
        "figure": _ship.percent(model.figure),
        "criteria": [_criterion(one, at) for one in model.criteria],
    }


def _criterion(criterion: Criterion, at: Path) -> dict[str, Any]:
    tests = [_test(test, at) for test in criterion.tests]
    times = [test.tested_at for test in criterion.tests if test.tested_at is not None]
    runs = {test["run"]: test["link"] for test in tests if test["link"] is not None}
    return {
        "criterion": criterion,
        "said": _ship.said(criterion),
        "tested_at": _ship.shown_time(max(times)) if times else "",
        "runs": list(runs.items()),
        "tests": tests,
    }


def _test(test: Standing, at: Path) -> dict[str, Any]:
    return {
        "test": test,
        "run": test.run,
        "link": _link(test.evidence, at) if test.evidence is not None else None,
        "command": shlex.join(test.command),
        "tested_at": _ship.shown_time(test.tested_at),
    }


def _link(path: Path, at: Path) -> str:
    """A file, from the page's folder."""
    return quote(os.path.relpath(path.absolute(), at.absolute()))


def _meter(criteria: Sequence[Criterion]) -> list[dict[str, Any]]:
    """The figure as a bar: a piece a criterion as wide as its weight, what is discharged first."""
    order = list(_ORDER)
    whole = sum(one.weight for one in criteria)
    pieces, x = [], 0.0
    for one in sorted(criteria, key=lambda one: order.index(one.status)):
        wide = _WIDTH * one.weight / whole
        pieces.append(
            {"x": x, "width": max(wide - 3, 1), "status": one.status, "title": f"{one.id}: {_ship.word(one.status)}"}
        )
        x += wide
    return pieces


def _curve(history: Sequence[Past]) -> dict[str, Any] | None:
    """The figure at every change, as steps, the same width each; None before there is a second."""
    if len(history) < 2:
        return None
    step = (_WIDTH - _LEFT) / len(history)
    points = []
    for i, past in enumerate(history):
        y = _BASE - (_BASE - 12) * past.figure
        points += [(_LEFT + step * i, y), (_LEFT + step * (i + 1), y)]
    return {
        "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        "first": _ship.shown_time(history[0].at),
        "last": f"{_ship.shown_time(history[-1].at)}: {_ship.percent(history[-1].figure)}",
        "width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "base": _BASE, "top": 12,
    }  # fmt: skip
