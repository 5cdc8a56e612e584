"""Which hypotheses two runs can tell apart, and the one further run that would tell apart the rest.

Two hypotheses are separated by a run of which they predict different results. Where both runs get the same prediction from
both, whatever comes out speaks for the one as it does for the other: section 61 planned two runs and could separate nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from apr.ledger.prediction import RUNS, SETTINGS, Hypothesis, Prediction, Result, Settings

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Separated:
    """Two hypotheses of which at most one can stand after the runs.

    by:  the runs of which they predict different results
    """

    first: str
    second: str
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExtraRun:
    """One more run: the control or the experiment with one field changed.

    based_on:    control or experiment
    field:       the setting to change
    value:       to what
    separates:   pairs of hypotheses that it tells apart and the two runs do not
    leaves:      those that stay alike
    """

    id: str
    based_on: str
    field: str
    value: Any
    separates: tuple[Pair, ...]
    leaves: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Separation:
    """What the two runs can say about the hypotheses.

    separated:    pairs that they tell apart
    inseparable:  pairs that they cannot tell apart, whatever comes out
    left:         of those, the pairs that may both still stand: neither is refuted
    extra_run:    the further run that tells apart most of what is left; null if nothing is, or no candidate does
    """

    separated: tuple[Separated, ...]
    inseparable: tuple[Pair, ...]
    left: tuple[Pair, ...]
    extra_run: ExtraRun | None


@dataclass(frozen=True, slots=True)
class _Further:
    id: str
    based_on: str
    field: str
    value: Any
    settings: Settings


def separate(prediction: Prediction, *, refuted: Container[str] = ()) -> Separation:
    """All pairs of hypotheses. refuted: ids of those that need no further run."""
    separated: list[Separated] = []
    inseparable: list[Pair] = []
    for a, b in combinations(prediction.hypotheses, 2):
        by = tuple(run for run in RUNS if _differ(prediction, a, b, run, prediction.settings(run)))
        if by:
            separated.append(Separated(a.id, b.id, by))
        else:
            inseparable.append((a.id, b.id))
    left = tuple(pair for pair in inseparable if not any(name in refuted for name in pair))
    return Separation(tuple(separated), tuple(inseparable), left, _extra_run(prediction, left))


def predicted(prediction: Prediction, hypothesis: Hypothesis, run: str, settings: Settings) -> Result | None:
    """What a hypothesis says will come of a run: by name, else by the field that it blames; None if it says nothing."""
    if run in hypothesis.predicts:
        return hypothesis.predicts[run]
    if hypothesis.blames is None:
        return None
    is_blamed = settings.value(hypothesis.blames) == prediction.control.value(hypothesis.blames)
    return "fail" if is_blamed else "pass"


def _differ(prediction: Prediction, a: Hypothesis, b: Hypothesis, run: str, settings: Settings) -> bool:
    results = [predicted(prediction, hypothesis, run, settings) for hypothesis in (a, b)]
    return None not in results and results[0] != results[1]


def _extra_run(prediction: Prediction, pairs: Sequence[Pair]) -> ExtraRun | None:
    """The candidate that tells apart most of the pairs, the first of equals."""
    by_id = {hypothesis.id: hypothesis for hypothesis in prediction.hypotheses}
    best: tuple[_Further, list[Pair]] | None = None
    for further in _further_runs(prediction):
        found = [
            (a, b) for a, b in pairs if _differ(prediction, by_id[a], by_id[b], further.id, further.settings)
        ]  # fmt: skip
        if found and (best is None or len(found) > len(best[1])):
            best = (further, found)
    if best is None:
        return None
    chosen, told = best
    leaves = tuple(pair for pair in pairs if pair not in told)
    return ExtraRun(chosen.id, chosen.based_on, chosen.field, chosen.value, tuple(told), leaves)


def _further_runs(prediction: Prediction) -> Iterator[_Further]:
    """The candidates of the file, then the control with each single field of the experiment where they differ."""
    for candidate in prediction.candidates:
        yield _Further(candidate.id, candidate.based_on, candidate.field, candidate.value, candidate.settings)
    for name in differing_settings(prediction.control, prediction.experiment):
        value = prediction.experiment.value(name)
        yield _Further(f"control-with-{name}", "control", name, value, with_setting(prediction.control, name, value))


def differing_settings(control: Settings, experiment: Settings) -> tuple[str, ...]:
    """The settings in which two runs are not asked the same."""
    return tuple(name for name in SETTINGS if control.value(name) != experiment.value(name))


def with_setting(settings: Settings, name: str, value: Any) -> Settings:
    """The settings with one of them changed."""
    if name.startswith("sampling."):
        return replace(settings, sampling=replace(settings.sampling, **{name.removeprefix("sampling."): value}))
    return replace(settings, **{name: value})
