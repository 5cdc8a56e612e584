"""`apr predict`, as text for a person: the verdict of each prediction, what differs, what was observed, what can be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apr.reports._style import Style, paint
from apr.reports._table import facts
from apr.reports.text import _plural, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apr.ledger._differences import Difference
    from apr.ledger._experiment import PredictionResult, PredictReport
    from apr.ledger._separation import ExtraRun, Separation

_MARKS: dict[str, tuple[str, Style]] = {
    "pass": ("✓", "green"),
    "comparable": ("✓", "green"),
    "consistent": ("✓", "green"),
    "fail": ("✗", "red"),
    "error": ("✗", "red"),
    "refuted": ("✗", "red"),
    "not_comparable": ("⊘", "yellow"),
    "undecided": ("?", "yellow"),
    "not_run": ("-", "dim"),
    "open": ("-", "dim"),
}
_KINDS = {"declared": "varies", "confound": "confound"}
_SHOWN = 48


def predict(report: PredictReport) -> str:
    """Every prediction, then what was fixed before."""
    blocks = [_prediction(result) for result in report.predictions]
    fixed = f"{visible(report.file)}, SHA-256 {report.file_sha256[:16]}…, fixed {report.fixed_at}"
    changed = "" if report.is_unchanged else "; " + paint("the file was changed since", "red")
    blocks.append(f"{fixed}{changed}; {report.seconds:.1f} s")
    return "\n\n".join(blocks)


def _prediction(result: PredictionResult) -> str:
    head = f"{_mark(result.verdict)} {paint(visible(result.id), 'bold')}  {visible(result.sentence)}"
    lines = [head]
    if result.meaning is not None:
        lines.append(f"  {paint('so', 'dim')}  {visible(result.meaning)}")
    if result.question:
        lines.append(paint(f"  {visible(result.question)}", "dim"))
    lines += _section("differences", list(_differences(result.differences)))
    if result.unforeseen is not None:
        lines.append(paint(f"  the files were not looked at: {visible(result.unforeseen)}", "dim"))
    lines += _section("observed", list(_runs(result)))
    lines += _section("hypotheses", list(_hypotheses(result)))
    told = [*_left(result), *_separation(result.separation)]
    told += [
        f"  no row of outcomes covers control {p['control']}, experiment {p['experiment']}" for p in result.uncovered
    ]
    lines += ["", *told] if told else []
    return "\n".join(lines)


def _section(name: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    return ["", paint(name, "bold"), facts(rows)] if rows else []


def _differences(found: Sequence[Difference]) -> Iterator[tuple[str, str]]:
    """Settings with what follows from each in brackets; what no setting explains by itself."""
    for difference in sorted(found, key=lambda one: one.kind != "declared"):
        if difference.follows_from is not None:
            continue
        follow = [d.field for d in found if d.follows_from == difference.field or _is_file(d, difference.field)]
        named = [name for name in follow if name != difference.field]
        more = f"  ({', '.join(named)})" if named else ""
        pair = f"{difference.field}: {_value(difference.control)} → {_value(difference.experiment)}"
        yield _KINDS[difference.kind], visible(pair + more)


def _is_file(difference: Difference, field: str) -> bool:
    return field == "model" and difference.follows_from == "weights"


def _value(value: Any) -> str:
    """A value in few columns: words as they are, long texts and lists cut."""
    if value is None:
        return "not set"
    shown = value if isinstance(value, str) and value and len(value.split()) == 1 and "\n" not in value else repr(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"


def _runs(result: PredictionResult) -> Iterator[tuple[str, str]]:
    for run in result.runs:
        yield run.name, f"{_mark(run.result)} {visible(_value(run.record.text))}"
        for condition in run.conditions:
            yield "", f"  {_mark(condition.status)} {visible(condition.condition)}: {visible(condition.sentence)}"
    if result.comparison is not None:
        yield "compared", f"{result.comparison.verdict.replace('_', ' ')}: {visible(result.comparison.sentence)}"


def _hypotheses(result: PredictionResult) -> Iterator[tuple[str, str]]:
    for one in result.hypotheses:
        said = ", ".join(f"{run} {expected}" for run, expected in one.predicts.items()) or "nothing of these runs"
        yield visible(one.id), f"{_mark(one.status)} {one.status}: predicts {said}; {visible(one.says)}"


def _left(result: PredictionResult) -> Iterator[str]:
    if result.hypotheses and all(one.status == "refuted" for one in result.hypotheses):
        yield "  every hypothesis is refuted: what is the case, none of them says"


def _separation(found: Separation) -> Iterator[str]:
    if found.separated:
        pairs = "; ".join(f"{one.first} / {one.second}" for one in found.separated)
        yield f"  told apart by these runs: {visible(pairs)}"
    if found.inseparable:
        yield f"  not told apart, whatever comes out: {visible(_pairs(found.inseparable))}"
    if found.extra_run is not None:
        yield f"  one more run: {visible(_extra(found.extra_run))}"
    elif found.left:
        yield f"  no further run is known that tells apart {visible(_pairs(found.left))}; add a candidate on which they disagree"
    elif found.inseparable:
        yield "  no further run is needed: of each such pair, one at least is refuted"


def _extra(run: ExtraRun) -> str:
    tells = f"tells apart {_pairs(run.separates)}"
    leaves = f", and leaves {_plural(len(run.leaves), 'pair')}: {_pairs(run.leaves)}" if run.leaves else ""
    return f"the {run.based_on} with {run.field} {_value(run.value)} ({run.id}) {tells}{leaves}"


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{a} / {b}" for a, b in pairs)


def _mark(state: str) -> str:
    mark, colour = _MARKS[state]
    return paint(mark, colour)
