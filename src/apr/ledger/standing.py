"""How each promise of some contracts stands for one model, computed from the evidence and typed by nobody.

Of a test, the newest run that was made with this model counts, whatever came of it: an old pass does not outlive a new failure.
A run that no longer holds is expired; a pass on another model shows that the test works and nothing of this model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from apr.ledger import evidence
from apr.ledger.contract import Contract, Falsification
from apr.ledger.evidence import Entry, Store, Subject, Tested

SCHEMA = "apr.contract-status/1"
Word = Literal["discharged", "failed", "undecided", "error", "not_runnable", "expired", "partial", "not_run"]
WORDS: tuple[Word, ...] = (
    "discharged", "failed", "undecided", "error", "not_runnable", "expired", "partial", "not_run",
)  # fmt: skip
_OF_STATUS: Mapping[str, Word] = {
    "pass": "discharged", "fail": "failed", "undecided": "undecided", "error": "error", "not_runnable": "not_runnable",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standing:
    """One falsification test, as it stands for a model.

    contract, id: of the test
    blocking:  whether its failure stops a release
    word:      discharged: it passed on these bytes, and nothing has changed since. partial: it passed on another model
    sentence:  what was found, or why it no longer holds
    tested_at: when that run ended, UTC
    evidence:  the statement; null where there is none
    run:       the statement's id
    observed, interval: what was judged, and its 95 % interval
    command:   that was run, as a person would type it; empty where nothing was
    """

    contract: str
    id: str
    blocking: bool
    word: Word
    sentence: str
    tested_at: str | None = None
    evidence: Path | None = None
    run: str | None = None
    observed: Mapping[str, Any] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StatusReport:
    """Every test of some contracts, as it stands for a model.

    model:      as it was named
    folder:     of the evidence
    contracts:  their ids
    rows:       a test each
    counts:     by word
    problems:   of the store, in words: where there is one, no evidence of it counts
    exit_code:  0 if every blocking test is discharged, 1 if one failed or the store was touched, else 5
    """

    model: str
    folder: Path
    contracts: tuple[str, ...]
    rows: tuple[Standing, ...]
    counts: Mapping[Word, int]
    problems: tuple[str, ...]
    exit_code: int
    schema: str = SCHEMA


def status(model: str, path: Path, contracts: Sequence[Contract], *, folder: Path) -> StatusReport:
    """How the contracts stand for a model. Raises FormatError for what is no model."""
    store = Store(folder)
    problems = tuple(f"{problem.where}: {problem.sentence}" for problem in store.verify())
    entries = [] if problems else store.entries()
    rows = tuple(_standings(contracts, entries, Subject.of(path), problems))
    counts: dict[Word, int] = {word: sum(row.word == word for row in rows) for word in WORDS}
    blocking = {row.word for row in rows if row.blocking}
    is_failed = "failed" in blocking or bool(problems)
    return StatusReport(
        model=model,
        folder=folder,
        contracts=tuple(contract.id for contract in contracts),
        rows=rows,
        counts=counts,
        problems=problems,
        exit_code=1 if is_failed else 0 if blocking == {"discharged"} else 5,
    )


def _standings(
    contracts: Sequence[Contract], entries: Sequence[Entry], subject: Subject, problems: Sequence[str]
) -> Iterator[Standing]:
    for contract in contracts:
        for test in contract.falsifications:
            if problems:
                reason = "the evidence is not as it was left, so none of it counts: apr evidence verify"
                yield Standing(contract.id, test.id, test.is_blocking, "not_run", reason)
            else:
                yield standing(contract, test, entries, subject)


def standing(contract: Contract, test: Falsification, entries: Sequence[Entry], subject: Subject) -> Standing:
    """How one test stands. entries: the oldest first, of a store that was verified."""
    runs = [(entry, tested) for entry in entries if (tested := _tested(entry, contract.id, test.id)) is not None]
    mine = [(entry, tested) for entry, tested in runs if _is_about(entry, subject)]
    if mine:
        entry, tested = mine[-1]
        # the other contracts of that run are not this test's
        now = {pinned.id: pinned.sha256 for pinned in entry.record.begun.contracts} | {contract.id: contract.sha256}
        why = evidence.expired(entry, subject=subject, contracts=now)
        word, sentence = (_OF_STATUS[tested.status], tested.sentence) if why is None else ("expired", why)
        return _made(contract, test, word, sentence, entry, tested)
    passed = [(entry, tested) for entry, tested in runs if tested.status == "pass"]
    if passed:
        entry, tested = passed[-1]
        other = entry.record.begun.model
        sentence = f"it passed on {other.name} (tensors {other.tensors_sha256[:12]}…), and was not run on this model"
        return _made(contract, test, "partial", sentence, entry, tested)
    return Standing(contract.id, test.id, test.is_blocking, "not_run", "there is no evidence")


def _tested(entry: Entry, contract: str, test: str) -> Tested | None:
    return next((one for one in entry.record.tests if (one.contract_id, one.id) == (contract, test)), None)


def _is_about(entry: Entry, subject: Subject) -> bool:
    """A model of the same tensors, or that lay at the same place: what it has become is what `expired` is asked."""
    tested = entry.record.begun.model
    return tested.tensors_sha256 == subject.tensors_sha256 or tested.path == subject.path


def _made(contract: Contract, test: Falsification, word: Word, sentence: str, entry: Entry, tested: Tested) -> Standing:
    return Standing(
        contract=contract.id,
        id=test.id,
        blocking=test.is_blocking,
        word=word,
        sentence=sentence,
        tested_at=entry.record.finished_at,
        evidence=entry.path,
        run=entry.row.id,
        observed=tested.observed,
        interval=tested.interval,
        command=tested.command,
    )
