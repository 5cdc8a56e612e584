"""Asks `why` about a pair and scores the answer: was it noticed, is the cause right, is the place right?"""

from __future__ import annotations

import shutil
import traceback
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mutants.mutant import Answer, Healthy, Mutant, Planted, Ward, agrees

# what the bench promises, as shares
LEAST_DETECTED = 0.99
LEAST_CAUSE, LEAST_PLACE = 0.95, 0.95
MOST_FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class Score:
    """How the instrument did on one case.

    is_detected:  of a mutant: a verdict that is a finding, or an exit status other than 0
    is_cause_right, is_place_right, is_link_right: False where it was not detected; True for a place that nobody states
    wanted:       cause, place and links that were expected, in words
    error:        the traceback, where the instrument raised
    warned:       what NumPy or Python warned of on the way; no promise, and not nice
    """

    id: str
    group: str
    cause: str
    is_mutant: bool
    is_real: bool
    is_detected: bool
    is_cause_right: bool
    is_place_right: bool
    is_link_right: bool
    wanted: str
    found: str
    seconds: float
    error: str = ""
    warned: tuple[str, ...] = ()


@dataclass
class Tally:
    """Counts of one line of the table."""

    n: int = 0
    detected: int = 0
    cause: int = 0
    place: int = 0
    link: int = 0
    scores: list[Score] = field(default_factory=list)

    def add(self, score: Score) -> None:
        """Count one mutant."""
        self.n += 1
        self.detected += score.is_detected
        self.cause += score.is_cause_right
        self.place += score.is_place_right
        self.link += score.is_link_right
        self.scores.append(score)


def judge(case: Mutant | Healthy, ward: Ward) -> Score:
    """Plant, ask, score, and clean up. An exception of the instrument is a miss, with its traceback."""
    made = case.plant(ward, case) if isinstance(case, Mutant) else case.make(ward, case)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            answer = (made.ask or _why(made))()
        found = score(case, made, answer)
        return replace(found, warned=tuple(sorted({_said(w) for w in caught})))
    except Exception as exc:  # noqa: BLE001 - the instrument must answer, whatever was planted
        return _failed(case, exc)
    finally:
        made.reference.close()
        made.candidate.close()
        shutil.rmtree(ward.folder(case.id), ignore_errors=True)


def score(case: Mutant | Healthy, made: Planted, answer: Answer) -> Score:
    """Hold an answer against what is known."""
    alarmed = answer.exit_code != 0 or (answer.verdict == "different" and not answer.benign)
    found = f"{answer.verdict} {answer.cause} in {answer.link} at {_short(answer.where)}: {answer.sentence}"
    if isinstance(case, Healthy):
        return Score(
            case.id, case.group, "", False, case.is_real, alarmed, True, True, True, "no alarm", found, answer.seconds
        )
    place = {**case.where, **made.where}
    return Score(
        id=case.id,
        group=case.group,
        cause=case.cause,
        is_mutant=True,
        is_real=case.is_real,
        is_detected=alarmed,
        is_cause_right=alarmed and answer.cause in case.causes,
        is_place_right=alarmed and all(agrees(value, answer.where.get(key)) for key, value in place.items()),
        is_link_right=alarmed and (not case.links or answer.link in case.links),
        wanted=f"{' | '.join(sorted(case.causes))} in {' | '.join(sorted(case.links)) or 'any'} at {_short(place)}",
        found=found,
        seconds=answer.seconds,
    )


def tallies(scores: Iterable[Score], by: str) -> dict[str, Tally]:
    """Mutants counted by "cause" or "group", in order."""
    found: dict[str, Tally] = {}
    for one in scores:
        if one.is_mutant:
            found.setdefault(getattr(one, by), Tally()).add(one)
    return dict(sorted(found.items()))


def verdicts(scores: Sequence[Score]) -> list[tuple[str, float, float, bool]]:
    """(what, measured, promised, kept): the four promises."""
    mutants = [s for s in scores if s.is_mutant]
    healthy = [s for s in scores if not s.is_mutant]
    rows = []
    if mutants:
        for what, key, least in (
            ("defects detected", "is_detected", LEAST_DETECTED),
            ("cause right", "is_cause_right", LEAST_CAUSE),
            ("place right", "is_place_right", LEAST_PLACE),
        ):
            share = sum(getattr(s, key) for s in mutants) / len(mutants)
            rows.append((what, share, least, share >= least))
    if healthy:
        share = sum(s.is_detected for s in healthy) / len(healthy)
        rows.append(("false alarms", share, MOST_FALSE_ALARMS, share <= MOST_FALSE_ALARMS))
    return rows


def misses(scores: Iterable[Score]) -> list[Score]:
    """The cases in which the instrument was wrong about something that is promised."""
    return [
        s
        for s in scores
        if (not (s.is_detected and s.is_cause_right and s.is_place_right) if s.is_mutant else s.is_detected)
    ]


def as_json(one: Score) -> dict[str, Any]:
    """A score as plain data."""
    return asdict(one)


def _said(warning: warnings.WarningMessage) -> str:
    return f"{Path(warning.filename).name}:{warning.lineno}: {warning.message}"


def _why(made: Planted) -> Any:
    from apr.parity.why import why

    def ask() -> Answer:
        report = why(made.reference, made.candidate)
        return Answer(
            verdict=report.verdict,
            benign=report.benign,
            exit_code=report.exit_code,
            link=report.link,
            cause=report.cause,
            where=report.where,
            sentence=report.sentence,
            seconds=report.seconds,
        )

    return ask


def _failed(case: Mutant | Healthy, exc: Exception) -> Score:
    found = f"raised {type(exc).__name__}: {exc}"
    text = "".join(traceback.format_exception(exc))
    if isinstance(case, Healthy):
        return Score(
            case.id, case.group, "", False, case.is_real, True, False, False, False, "no alarm", found, 0.0, text
        )
    return Score(
        case.id,
        case.group,
        case.cause,
        True,
        case.is_real,
        False,
        False,
        False,
        False,
        " | ".join(sorted(case.causes)),
        found,
        0.0,
        text,
    )


def _short(where: Any) -> str:
    parts = []
    for key, value in where.items():
        if isinstance(value, frozenset):
            words = sorted(map(str, value))
            value = " | ".join(words[:3]) + (" …" if len(words) > 3 else "")
        text = str(value)
        parts.append(f"{key}={text if len(text) <= 60 else text[:57] + '…'}")
    return ", ".join(parts) or "no stated place"
