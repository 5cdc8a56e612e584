"""May these models be handed out? Every criterion of a plan, as the evidence has it, and the figure that follows from them.

Nothing is run and nothing is typed in: a status follows from the newest run of each test on these very bytes, the figure
from the statuses. What cannot be shown now does not count, whatever was shown once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from apr.errors import AprError
from apr.ledger import _history, standing
from apr.ledger._expect import judge
from apr.ledger._history import Change, Past
from apr.ledger._ship_plan import Plan, PlannedCriterion, PlannedModel, read
from apr.ledger._subject import Subject
from apr.ledger.contract import Falsification
from apr.ledger.evidence import Entry, Store
from apr.ledger.standing import Standing, Word

__all__ = [
    "SCHEMA",
    "STATUSES",
    "Change",
    "Criterion",
    "Past",
    "Plan",
    "Scored",
    "ShipModel",
    "ShipReport",
    "read",
    "ship",
]

SCHEMA = "apr.ship/1"
Status = Literal["discharged", "partial", "undecided", "failed", "blocked", "expired", "not_run"]
Verdict = Literal["ship", "hold", "open"]
STATUSES: tuple[Status, ...] = get_args(Status)
_EVAL_SCHEMA = "apr.eval/1"
EXIT_CODES: Mapping[Verdict, int] = {"ship": 0, "hold": 1, "open": 5}

# of several tests the last in this order decides; what ended in an error, or cannot be run here, has shown nothing
_OF_WORD: Mapping[Word, Status] = {
    "discharged": "discharged", "partial": "partial", "undecided": "undecided", "not_run": "not_run", "not_runnable": "not_run",
    "error": "not_run", "expired": "expired", "failed": "failed",
}  # fmt: skip
_ORDER: tuple[Status, ...] = ("discharged", "partial", "undecided", "not_run", "expired", "failed")
_OF_OUTCOME: Mapping[str, Status] = {"fail": "failed", "undecided": "undecided", "error": "not_run"}
_WHY_NOT: Mapping[Word, str] = {"error": "ended in an error: ", "not_runnable": "cannot be run here: "}


@dataclass(frozen=True, slots=True)
class Scored:
    """A score of `apr eval` that the evidence of a criterion holds.

    task:      humaneval, perplexity, or the file of questions
    name:      of the score
    regime:    raw or chat; null where there are no prompts
    value, n:  the score, and over how many
    interval:  95 %; null where there is none
    """

    task: str
    name: str
    regime: str | None
    value: float
    n: int
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Criterion:
    """One acceptance criterion, as it stands.

    id:          of the criterion
    statement:   what is promised
    contract:    id of the contract
    blocking:    whether the release waits for it
    weight:      its part of the figure
    status:      discharged, partial (the tests passed on another model only), undecided, failed, blocked, expired, not_run
    sentence:    of the test that decided
    blocked_by:  criteria that it needs and that are not discharged
    threshold:   what the plan asks for besides the contract; null if nothing
    advice:      what the contract says to do if the tests that decided fail; empty where none did
    scores:      of the evaluations among the tests that hold
    tests:       each test as it stands, with its evidence
    """

    id: str
    statement: str
    contract: str
    blocking: bool
    weight: float
    status: Status
    sentence: str
    blocked_by: tuple[str, ...]
    threshold: str | None
    advice: tuple[str, ...]
    scores: tuple[Scored, ...]
    tests: tuple[Standing, ...]


@dataclass(frozen=True, slots=True)
class ShipModel:
    """A model of the plan.

    id, model, reference: as the plan has them
    contracts:      files, from where the plan lies
    files:          SHA-256 by name; empty if the model could not be looked at
    tensors_sha256: of what its tensors hold; null likewise
    problem:        why the model could not be looked at; null if it was
    figure:         discharged weight of all weight, 0 to 1
    criteria:       in the order of the plan
    uncounted:      tests of the contracts that no criterion counts
    """

    id: str
    model: str
    reference: str | None
    contracts: tuple[Path, ...]
    files: Mapping[str, str]
    tensors_sha256: str | None
    problem: str | None
    figure: float
    criteria: tuple[Criterion, ...]
    uncounted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShipReport:
    """A release, as it stands.

    plan:         the file
    plan_sha256:  of its bytes
    folder:       of the evidence
    figure:       discharged weight of all weight, 0 to 1
    counts:       criteria by status
    models:       in the order of the plan
    problems:     of the evidence, in words: where there is one, none of it counts
    notes:        what could not be looked at, read or kept
    since:        when the result that this one is compared with was kept, UTC; null if it is the first
    changes:      what is other than then
    history:      the figure at every change, the oldest first, this one last
    verdict:      ship: all that blocks is discharged; hold: some of it failed, or the evidence was touched; open: not all is shown
    exit_code:    0 ship, 1 hold, 5 open
    """

    plan: Path
    plan_sha256: str
    folder: Path
    figure: float
    counts: Mapping[Status, int]
    models: tuple[ShipModel, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    since: str | None
    changes: tuple[Change, ...]
    history: tuple[Past, ...]
    verdict: Verdict
    exit_code: int
    schema: str = SCHEMA


def ship(plan: Plan, *, folder: Path, resolve: Callable[[str], Path]) -> ShipReport:
    """How a release stands. A result that differs from the one before is kept beside the evidence, for `changes`.

    folder:   of the evidence; it need not be there
    resolve:  a model's name to its path; what it raises is the model's problem, not the report's
    """
    store, name = Store(folder), plan.path.name
    found = store.verify(head=_history.head(folder, name))
    problems = tuple(f"{problem.where}: {problem.sentence}" for problem in found)
    entries = [] if problems else store.entries()
    looked_at = [_model(one, entries, problems, resolve) for one in plan.models]
    models = tuple(model for model, _ in looked_at)
    criteria = [criterion for model in models for criterion in model.criteria]
    figure = figure_of(criteria)
    kept = _history.keep(folder, name, figure, _states(models), head=None if problems else store.extent()[1])
    verdict = _verdict(criteria, problems)
    return ShipReport(
        plan=plan.path,
        plan_sha256=plan.sha256,
        folder=folder,
        figure=figure,
        counts={status: sum(one.status == status for one in criteria) for status in STATUSES},
        models=models,
        problems=problems,
        notes=(*(note for _, notes in looked_at for note in notes), *kept.notes),
        since=kept.since,
        changes=kept.changes,
        history=kept.history,
        verdict=verdict,
        exit_code=EXIT_CODES[verdict],
    )


def _states(models: Sequence[ShipModel]) -> _history.States:
    """What a result is compared by."""
    states = {model.id: {"tensors": model.tensors_sha256 or "none"} for model in models}
    for model in models:
        for one in model.criteria:
            said = {"status": one.status, "weight": f"{one.weight:g}", "blocking": str(one.blocking).lower()}
            states[f"{model.id}/{one.id}"] = said
    return states


def figure_of(criteria: Iterable[Criterion]) -> float:
    """The weight that is discharged, of all."""
    weights = [(one.weight, one.status == "discharged") for one in criteria]
    return sum(weight for weight, is_discharged in weights if is_discharged) / sum(weight for weight, _ in weights)


def _verdict(criteria: Sequence[Criterion], problems: Sequence[str]) -> Verdict:
    blocking = {one.status for one in criteria if one.blocking}
    if "failed" in blocking or problems:
        return "hold"
    return "ship" if blocking <= {"discharged"} else "open"


def _model(
    planned: PlannedModel, entries: Sequence[Entry], problems: Sequence[str], resolve: Callable[[str], Path]
) -> tuple[ShipModel, list[str]]:
    """A model as it stands, and what could not be looked at besides."""
    subject, problem = _looked_at(planned.model, resolve)
    reference, _ = _looked_at(planned.reference, resolve)
    notes = []
    if planned.reference is not None and reference is None:
        notes.append(
            f"{planned.id}: the reference {planned.reference} is not here; what it was is as the evidence has it"
        )
    if problems or subject is None:
        reason = (
            "the evidence is not as it was left, so none of it counts: apr evidence verify"
            if problems
            else problem or ""
        )
        alone = [_criterion(one, [_not_shown(one, test, reason) for test in one.tests], {}) for one in planned.criteria]
    else:
        alone = [_stands(one, entries, subject, reference) for one in planned.criteria]
    criteria = _with_needs(alone, {one.id: one.needs for one in planned.criteria})
    counted = {(one.contract.path, test.id) for one in planned.criteria for test in one.tests}
    model = ShipModel(
        id=planned.id,
        model=planned.model,
        reference=planned.reference,
        contracts=tuple(one.path for one in planned.contracts),
        files=subject.files if subject is not None else {},
        tensors_sha256=subject.tensors_sha256 if subject is not None else None,
        problem=problem,
        figure=figure_of(criteria),
        criteria=criteria,
        uncounted=tuple(
            test.id for one in planned.contracts for test in one.falsifications if (one.path, test.id) not in counted
        ),
    )
    return model, notes


def _looked_at(name: str | None, resolve: Callable[[str], Path]) -> tuple[Subject | None, str | None]:
    """A model, or why it is none."""
    if name is None:
        return None, None
    try:
        return Subject.of(resolve(name)), None
    except AprError as exc:
        return None, str(exc)


def _not_shown(planned: PlannedCriterion, test: Falsification, reason: str) -> Standing:
    return Standing(planned.contract.id, test.id, test.is_blocking, "not_run", reason)


def _stands(
    planned: PlannedCriterion, entries: Sequence[Entry], subject: Subject, reference: Subject | None
) -> Criterion:
    by_run = {entry.row.id: entry for entry in entries}
    tests = []
    held: dict[str, Mapping[str, Any]] = {}
    for test in planned.tests:
        found = standing.standing(planned.contract, test, entries, subject)
        if found.run is not None:
            entry = by_run[found.run]
            found = _against(found, test, entry, reference)
            held[test.id] = next(
                one.document for one in entry.record.tests if (one.contract_id, one.id) == (found.contract, test.id)
            )
        tests.append(found)
    return _criterion(planned, tests, held)


def _against(found: Standing, test: Falsification, entry: Entry, reference: Subject | None) -> Standing:
    """A comparison counts only with the original that the plan names."""
    compared = entry.record.begun.reference
    compares = test.check is not None and test.check.needs_reference
    if found.word != "discharged" or not compares or reference is None or compared is None:
        return found
    if compared.tensors_sha256 == reference.tensors_sha256:
        return found
    said = f"{compared.name} (tensors {compared.tensors_sha256[:12]}…)"
    return replace(found, word="expired", sentence=f"it was held against {said}, the plan names {reference.name}")


def _criterion(
    planned: PlannedCriterion, tests: Sequence[Standing], documents: Mapping[str, Mapping[str, Any]]
) -> Criterion:
    """A criterion by its own tests and threshold."""
    statuses = [_OF_WORD[test.word] for test in tests]
    status = max(statuses, key=_ORDER.index)
    sentence = _sentence(tests, [test for test, one in zip(tests, statuses, strict=True) if one == status])
    bar = planned.threshold
    if bar is not None and status == "discharged":
        outcome = judge([bar.expect], documents[bar.test])
        if outcome.status != "pass":
            status = _OF_OUTCOME[outcome.status]
            sentence = f"the plan's threshold: {outcome.sentence}"
    return Criterion(
        id=planned.id,
        statement=planned.statement,
        contract=planned.contract.id,
        blocking=planned.blocking,
        weight=planned.weight,
        status=status,
        sentence=sentence,
        blocked_by=(),
        threshold=f"{bar.expect.path} {bar.expect.op.replace('_', ' ')} {bar.expect.value}"
        if bar is not None
        else None,
        advice=tuple(
            planned_test.if_fails
            for planned_test, test in zip(planned.tests, tests, strict=True)
            if test.word == "failed" and planned_test.if_fails
        ),
        scores=tuple(
            score
            for test in tests
            if test.word in ("discharged", "failed", "undecided")
            for score in _scores(documents.get(test.id, {}))
        ),
        tests=tuple(tests),
    )


def _sentence(tests: Sequence[Standing], deciding: Sequence[Standing]) -> str:
    """What the tests that decided say; which they are, where there are others."""
    said: dict[str, list[str]] = {}
    for test in deciding:
        said.setdefault(_WHY_NOT.get(test.word, "") + test.sentence, []).append(test.id)
    if len(deciding) == len(tests):
        return "; ".join(said)
    return "; ".join(f"{', '.join(ids)}: {sentence}" for sentence, ids in said.items())


def _scores(document: Mapping[str, Any]) -> Iterator[Scored]:
    """What an evaluation's document has found; nothing of another document."""
    if document.get("schema") != _EVAL_SCHEMA:
        return
    for score in document["scores"]:
        if score["value"] is not None:
            interval = tuple(score["interval"]) if score["interval"] is not None else None
            yield Scored(document["task"], score["name"], score["regime"], score["value"], score["n"], interval)


def _with_needs(alone: Sequence[Criterion], needs: Mapping[str, Sequence[str]]) -> tuple[Criterion, ...]:
    """Each criterion by what it needs too: nothing is shown on ground that is not. A failure of its own stays one."""
    by_id = {one.id: one for one in alone}

    def settled(one: Criterion) -> Criterion:
        if one.status == "failed":
            return one
        ground = [settled(by_id[need]) for need in needs[one.id]]
        # what was never run waits for what is broken, not for what was never run either
        waits_for = {"failed", "blocked"} if one.status in ("not_run", "expired") else set(STATUSES) - {"discharged"}
        blocked_by = tuple(other.id for other in ground if other.status in waits_for)
        if not blocked_by:
            return one
        said = ", ".join(f"{other.id} ({other.status.replace('_', ' ')})" for other in ground if other.id in blocked_by)
        return replace(
            one, status="blocked", sentence=f"by {said}; its own tests: {one.sentence}", blocked_by=blocked_by
        )

    return tuple(settled(one) for one in alone)
