"""What is said about a store of evidence, as data: the forms that `apr evidence` prints."""

from __future__ import annotations

from dataclasses import dataclass, field

from apr.ledger._index import Problem, Row
from apr.ledger._statement import STATUSES, Ended, Record, Result
from apr.ledger.evidence import Entry, Subject, contracts_now, expired


@dataclass(frozen=True, slots=True)
class EvidenceRun:
    """One run of `apr evidence list`.

    id:           of the run
    finished_at:  UTC, ISO 8601
    model:        name of its file or folder
    contracts:    id and version of each
    result:       PASSED, WARNED (not all of it was shown) or FAILED
    ended:        finished or abandoned
    counts:       tests by status
    is_signed:    whether a signed envelope lies beside the statement
    expired:      why it says nothing about the model that was asked about; null if it holds, or none was
    """

    id: str
    finished_at: str
    model: str
    contracts: tuple[str, ...]
    result: Result
    ended: Ended
    counts: dict[str, int]
    is_signed: bool
    expired: str | None

    @classmethod
    def of(cls, entry: Entry, *, subject: Subject | None) -> EvidenceRun:
        """A run of a store; with a subject, and the contracts where they lay, whether it still holds."""
        begun, tests = entry.record.begun, entry.record.tests
        return cls(
            id=begun.id,
            finished_at=entry.record.finished_at,
            model=begun.model.name,
            contracts=tuple(f"{contract.id} {contract.version}" for contract in begun.contracts),
            result=entry.record.result,
            ended=entry.record.ended,
            counts={status: sum(test.status == status for test in tests) for status in STATUSES},
            is_signed=entry.is_signed,
            expired=expired(entry, subject=subject, contracts=contracts_now(entry)) if subject is not None else None,
        )


@dataclass(frozen=True, slots=True)
class EvidenceList:
    """What `apr evidence list` prints.

    store:      the folder
    model:      whose evidence was asked for; null for all
    runs:       the oldest first
    under_way:  runs that have not ended, whose process is there
    """

    store: str
    model: str | None
    runs: tuple[EvidenceRun, ...]
    under_way: tuple[str, ...]
    schema: str = field(default="apr.evidence-list/1")


@dataclass(frozen=True, slots=True)
class EvidenceShown:
    """What `apr evidence show` prints.

    row:        its line in the index
    path:       of the statement
    record:     what the statement says
    is_signed:  whether a signed envelope lies beside it
    """

    row: Row
    path: str
    record: Record
    is_signed: bool
    schema: str = field(default="apr.evidence/1")


@dataclass(frozen=True, slots=True)
class EvidenceAudit:
    """What `apr evidence verify` prints.

    store:      the folder
    n_runs:     rows of the index
    head:       hash of the last row, which stands for all before it; null if there is none
    key:        the public key that must have signed; null if signatures were not asked for
    problems:   what is not as it was written, and the runs that never ended
    under_way:  runs that have not ended, whose process is there
    exit_code:  the status that the command exits with
    """

    store: str
    n_runs: int
    head: str | None
    key: str | None
    problems: tuple[Problem, ...]
    under_way: tuple[str, ...]
    exit_code: int
    schema: str = field(default="apr.evidence-verify/1")


@dataclass(frozen=True, slots=True)
class EvidenceKey:
    """What `apr evidence key` prints.

    private_key:  the file to keep
    public_key:   the file for whoever verifies
    """

    private_key: str
    public_key: str
    schema: str = field(default="apr.evidence-key/1")


@dataclass(frozen=True, slots=True)
class EvidenceWritten:
    """What `apr evidence sign` and `apr evidence close` print.

    id:      of the run
    path:    of the envelope or statement that was written
    key_id:  of the key that signed; null for a run that was closed
    """

    id: str
    path: str
    key_id: str | None
    schema: str = field(default="apr.evidence-written/1")
