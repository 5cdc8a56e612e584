"""Nothing that an earlier report of this model passed has been lost since, and nothing has become slower or worse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from apr.qa._judged import Judged
from apr.qa.gate import Finding, GateResult, gate

# gate -> its figure with an interval, of which more is better; whether it depends on the machine
_FIGURES: dict[str, tuple[str, bool]] = {
    "throughput": ("limit_fraction", True),
    "golden_output": ("right_share", False),
}


@gate(
    rationale="What worked in the last release and does not in this one is what users notice first.",
    source="the earlier report (schema apr.qa/1); ship-two 7.2, performance_regression",
    severity="P1",
    profiles=("smoke", "release"),
    is_last=True,
)
def check(judged: Judged) -> Iterator[Finding]:
    """Each gate's status against the earlier report's, and figures as a ratio with its interval."""
    previous = judged.previous
    if previous is None:
        message = f"no earlier report: apr qa {judged.model.name} --json > report.json now, and --previous report.json the next time"
        yield Finding("skip", "no-previous", message)
        return
    field = _incomparable(previous, judged)
    if field is not None:
        key, then, now = field
        message = f"not comparable: {key} was {then!r} in the earlier report, and is {now!r}"
        yield Finding("undecided", "not-comparable", message, {"key": key, "reference": then, "candidate": now})
        return
    earlier = {gate["id"]: gate for gate in previous.get("gates", [])}
    shared = [result for result in judged.results if result.id in earlier]
    if not shared:
        yield Finding("undecided", "nothing-shared", "no gate of this run is in the earlier report")
        return
    yield from _statuses(shared, earlier)
    same_machine = previous.get("computed_by") == judged.computed_by
    for result in shared:
        if result.id in _FIGURES:
            yield from _figure(result, earlier[result.id], previous, judged, same_machine=same_machine)


def _incomparable(previous: Mapping[str, Any], judged: Judged) -> tuple[str, Any, Any] | None:
    """The field in which the two reports are about something else, with both values; None if they can be compared."""
    for key, now in (("schema", "apr.qa/1"), ("model_sha256", judged.sha256)):
        if previous.get(key) != now:
            return key, previous.get(key), now
    return None


def _statuses(shared: Sequence[GateResult], earlier: Mapping[str, Any]) -> Iterator[Finding]:
    lost = [
        result for result in shared if earlier[result.id]["status"] == "pass" and result.status in ("fail", "error")
    ]
    for result in lost:
        message = f"{result.id} passed before, and now: {result.message}"
        yield Finding("fail", "lost", message, {"gate": result.id, "code": result.code})
    # a pass that was not asked again is no pass that was kept
    open_now = [r for r in shared if earlier[r.id]["status"] == "pass" and r.status in ("undecided", "skip")]
    for result in open_now:
        message = f"{result.id} passed before, and is {result.status} now: {result.message}"
        yield Finding("undecided", "no-longer-decided", message, {"gate": result.id, "code": result.code})
    measure = {"n_compared": len(shared), "n_lost": len(lost), "n_open": len(open_now)}
    if not lost and not open_now:
        yield Finding("pass", "kept", f"{len(shared)} gates: what passed before passes", measure=measure)


def _figure(
    result: GateResult, then: Mapping[str, Any], previous: Mapping[str, Any], judged: Judged, *, same_machine: bool
) -> Iterator[Finding]:
    """A figure as a ratio of now to then, whose interval holds both intervals."""
    name, is_machines = _FIGURES[result.id]
    if is_machines and not same_machine:
        message = f"{result.id} is not comparable: computed_by was {previous.get('computed_by')!r}, and is {judged.computed_by!r}"
        yield Finding("undecided", "other-machine", message, {"key": "computed_by", "gate": result.id})
        return
    before, now = then.get("measure", {}).get(name), result.measure.get(name)
    spans = then.get("interval"), result.interval
    if not before or now is None or spans[0] is None or spans[1] is None or spans[0][1] <= 0:
        return
    ratio = now / before
    interval = (spans[1][0] / spans[0][1], spans[1][1] / spans[0][0] if spans[0][0] > 0 else float("inf"))
    measure = {"figure": name, "before": before, "now": now, "ratio": ratio}
    where = {"gate": result.id, "key": name}
    said = f"{result.id}: {name} is {ratio:.2f} times what it was ({before:.3g}, now {now:.3g}; {interval[0]:.2f} to {interval[1]:.2f})"
    if interval[1] < 1.0:
        code = "slower" if is_machines else "worse"
        yield Finding("fail", code, said, where, measure, interval)
    else:
        yield Finding("pass", "as-before", said, where, measure, interval)
