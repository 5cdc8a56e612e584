"""Scores as text for a person."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from apr.reports._style import paint
from apr.reports._table import facts, table
from apr.reports.text import _aside, visible

if TYPE_CHECKING:
    from apr.evals._report import EvalReport, Score

_SHARES = ("pass@", "accuracy", "top1_agreement")
_METHODS = {"wilson": "Wilson", "bootstrap": "redrawn"}


def evaluation(report: EvalReport) -> str:
    """What `apr eval` found."""
    parts = [f"{paint(visible(report.model), 'bold')}: {visible(report.task)}", _scores(report)]
    notes = [
        f"{score.name}, {score.regime}: {score.note}" if score.regime else score.note
        for score in report.scores
        if score.note
    ]
    parts += [visible(note) for note in dict.fromkeys(notes)]
    kinds = _kinds(report)
    if kinds:
        parts.append(kinds)
    parts.append(facts(_behind(report)))
    return "\n\n".join(parts)


def kept_line(report: EvalReport) -> str:
    """Where the answers are, in one line for standard error; empty if there are none."""
    if report.journal is None:
        return ""
    resumed = f"; {report.n_resumed} answers were there" if report.n_resumed else ""
    cut = f"; {report.n_cut_bytes} bytes of a half-written line were removed" if report.n_cut_bytes else ""
    return _aside(f"answers, programs and run records: {visible(report.journal)}{resumed}{cut}")


def interrupted_line(task: str) -> str:
    """What a user who pressed Ctrl-C wants to know."""
    return _aside(f"{visible(task)}: what was answered is kept; the same command goes on with it")


def _scores(report: EvalReport) -> str:
    header = ("score", "regime", "value", "95 % interval", "over")
    return table(header, [_row(score) for score in report.scores], right=(2,))


def _row(score: Score) -> tuple[str, str, str, str, str]:
    value = "-" if score.value is None else _number(score, score.value)
    interval = "-"
    if score.interval is not None:
        low, high = (_number(score, end) for end in score.interval)
        interval = f"{low} to {high} ({_METHODS.get(score.method, score.method)})"
    over = f"{score.n} of {score.n_all} {score.of}" if score.n != score.n_all else f"all {score.n} {score.of}"
    if score.n_passed is not None:
        over = f"{score.n_passed} passed, {over}"
    return score.name, score.regime or "", value, interval, over


def _number(score: Score, value: float) -> str:
    if score.name.startswith(_SHARES):
        return f"{100 * value:.1f} %"
    return f"{value:.5g}" if abs(value) < 1000 else f"{value:.0f}"


def _kinds(report: EvalReport) -> str:
    """Why answers failed, by regime."""
    regimes = list(dict.fromkeys(item.regime for item in report.items))
    rows = []
    for regime in regimes:
        counted = Counter(kind for item in report.items if item.regime == regime for kind in item.kinds)
        rows += [(regime, kind, str(n)) for kind, n in counted.most_common()]
    return table(("regime", "answer", "number"), rows, right=(2,)) if rows else ""


def _behind(report: EvalReport) -> list[tuple[str, str]]:
    """What stands behind the scores."""
    rows = [("model", f"SHA-256 {report.model_sha256[:16]}")]
    if report.reference is not None:
        rows.append(("reference", visible(report.reference)))
    tested = report.self_test
    if tested is not None:
        rows.append((
            "self-test",
            f"canonical solutions {tested.n_canonical_passed} of {tested.n_canonical} pass, empty answers "
            f"{tested.n_empty_passed} of {tested.n_empty}, cheating programs {tested.n_cheating_passed} of {tested.n_cheating}",
        ))  # fmt: skip
    if report.confinement:
        rows.append(("sandbox", "; ".join(f"{about}: {how}" for about, how in report.confinement.items())))
    if report.shards > 1:
        rows.append(("shards", str(report.shards)))
    rows.append(("time", f"{report.seconds:.1f} s"))
    return rows
