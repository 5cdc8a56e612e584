"""Evidence: what was promised, fixed before the run; what was found, one in-toto Statement a run; and until when it holds.

A store is a folder: `statements/` with a file a run, `index.jsonl` and `head.json` (see `_index`), and `pending/` with what was
fixed for the runs that have not ended, and what they have found so far (`_noted`). A run ends in this order: its statement, its row, the head, and only then its
pending file goes; a process killed in between leaves a store that says which run it was.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import platform
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

import apr
from apr import _atomic
from apr.errors import AprError, FormatError, HostileFile, UsageError
from apr.ledger import _audit, _index, _noted, _signing, _statement
from apr.ledger._expiry import contracts_now, expired, installed
from apr.ledger._index import DEFAULT_FOLDER, Index, Problem, Row
from apr.ledger._statement import Begun, Ended, Pinned, Record, Tested
from apr.ledger._subject import Subject

__all__ = [
    "DEFAULT_FOLDER",
    "Entry",
    "Pending",
    "Problem",
    "Promised",
    "Store",
    "Subject",
    "Tested",
    "abandon",
    "begin",
    "contracts_now",
    "expired",
    "finish",
    "installed",
    "note",
]

# what computes, or decides what is computed
_PACKAGES = ("numpy", "tokenizers", "safetensors", "jinja2", "xllamacpp", "transformers", "torch")


class Promised(Protocol):
    """What evidence must know of a contract."""

    @property
    def id(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def path(self) -> Path: ...


@dataclass(frozen=True, slots=True)
class Pending:
    """A run that was begun: what is fixed about it is on the disk.

    begun:  what is fixed
    folder: of the store
    """

    begun: Begun
    folder: Path
    _lock: int

    @property
    def id(self) -> str:
        """Of the run."""
        return self.begun.id


@dataclass(frozen=True, slots=True)
class Entry:
    """A run of the index, with its statement.

    row:        its line in the index
    path:       of the statement
    record:     what the statement says
    is_signed:  whether an envelope lies beside it; `Store.verify` says whether it is to be believed
    """

    row: Row
    path: Path
    record: Record
    is_signed: bool


class Store:
    """A folder of evidence. Nothing in it is changed or removed; it need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self, *, about: Subject | None = None) -> list[Entry]:
        """Every run of the index, the oldest first. Raises FormatError for a statement that is not as it was listed.

        about:  only what has its content under any name, or its name with other content, which is what expires
        """
        with _index.locked(self.folder, for_writing=False):
            index = Index(self.folder)
            if index.problems:
                raise FormatError(index.path, f"{index.problems[0].sentence}; next: apr evidence verify")
            found = [self._entry(row) for row in index.rows]
        return found if about is None else [entry for entry in found if _is_about(entry.record.begun.model, about)]

    def entry(self, run: str) -> Entry:
        """One run. Raises UsageError if it is not there, FormatError if its statement is not as it was listed."""
        with _index.locked(self.folder, for_writing=False):
            row = Index(self.folder).find(_index.check_id(run))
            if row is None:
                raise UsageError(f"{self.folder}: no run {run}; apr evidence list shows what is there")
            return self._entry(row)

    def extent(self) -> tuple[int, str | None]:
        """How many rows there are, and the hash of the last, which stands for all before it; None if there is none."""
        with _index.locked(self.folder, for_writing=False):
            rows = Index(self.folder).rows
            return len(rows), rows[-1].hash if rows else None

    def verify(self, *, key: Path | None = None, head: str | None = None) -> list[Problem]:
        """Everything that is not as it was written, and the runs that never ended; those under way are no problem.

        key:   a public key with which every statement must have been signed
        head:  what `extent` said once
        """
        return _audit.problems(self.folder, key=key, head=head)

    def under_way(self) -> list[str]:
        """Runs whose process is still there."""
        return [run for run in _index.pending_runs(self.folder) if _audit.is_running(self.folder, run)]

    def close(self, run: str) -> Path:
        """End a run whose process is gone: list its statement if it was written, else one that says it was abandoned.

        What it had noted is in that statement, if the model is still what was tested.

        Raises UsageError if there is no such run or it is under way, FormatError if the store is damaged.
        """
        path = _index.pending_path(self.folder, run)
        if not path.exists():
            raise UsageError(f"{self.folder}: no run {run} is unfinished; apr evidence verify names those that are")
        if _audit.is_running(self.folder, run):
            raise UsageError(f"the run {run} is under way; wait for it, or end its process first")
        begun = _read_pending(path)
        written = _index.statement_path(self.folder, run)
        if written.exists():
            content = written.read_bytes()
            if _statement.read(written, content).begun != begun:
                raise FormatError(
                    written, f"is not about the run that {path} began; one of them was changed, remove neither"
                )
        else:
            content = _statement.make(begun, _still_held(self.folder, begun), finished_at=_now(), ended="abandoned")
        return _write(self.folder, begun, content)

    def sign(self, run: str, key: Path) -> tuple[Path, str]:
        """Put a signed envelope beside a statement; its path and the id of the key. Raises as `entry` and `_signing.sign`."""
        entry = self.entry(run)
        content, key_id = _signing.sign(entry.path.read_bytes(), key)
        path = _index.envelope_path(self.folder, run)
        _atomic.write_bytes(path, content)
        return path, key_id

    def export(self, path: Path) -> int:
        """Write every statement as one line of JSON, in the order of the index; how many there were."""
        entries = self.entries()
        with _atomic.writing(path) as file:
            for entry in entries:
                file.write(
                    json.dumps(json.loads(entry.path.read_bytes()), separators=(",", ":")).encode("ascii") + b"\n"
                )
        return len(entries)

    def _entry(self, row: Row) -> Entry:
        path = _index.statement_path(self.folder, row.id)
        if not path.exists():
            raise FormatError(path, f"row {row.n} of the index lists it, and it is gone; next: apr evidence verify")
        content = path.read_bytes()
        if _statement.sha256(content) != row.sha256:
            raise FormatError(path, f"is not what row {row.n} of the index lists; next: apr evidence verify")
        is_signed = _index.envelope_path(self.folder, row.id).exists()
        return Entry(row, path, _statement.read(path, content), is_signed)


def begin(
    folder: Path,
    *,
    model: Path,
    contracts: Sequence[Promised],
    command: Sequence[str],
    reference: Path | None = None,
    engines: Mapping[str, str] | None = None,
) -> Pending:
    """Fix what a run will be about, before anything runs; it is on the disk when this returns.

    folder:   the store, made if it is not there
    command:  the exact words of the command line
    engines:  name and version of what computes; our own if nothing else is said
    Raises    UsageError (no contract, an id twice, a model as its own reference), FormatError (no model, or a damaged store).
    """
    if not contracts:
        raise UsageError("evidence of no contract proves nothing; name at least one")
    ids = [contract.id for contract in contracts]
    if len(set(ids)) < len(ids):
        raise UsageError(f"a contract id twice among {', '.join(ids)}; name each contract once")
    subject = Subject.of(model)
    original = Subject.of(reference) if reference is not None else None
    if original is not None and original.files == subject.files:
        raise UsageError(
            f"{reference} is the model itself; held against itself it shows nothing, give what it was made from"
        )
    begun = Begun(
        id=f"{_now(compact=True)}-{secrets.token_hex(4)}",
        started_at=_now(),
        model=subject,
        reference=original,
        contracts=tuple(Pinned(c.id, str(c.version), c.sha256, str(c.path)) for c in contracts),
        command=tuple(command),
        engines=dict(engines or {"native": apr.__version__}),
        versions=_versions(),
        machine=_machine(),
    )
    for part in ("statements", "pending"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    path = _index.pending_path(folder, begun.id)
    with _index.locked(folder, for_writing=True):
        Index(folder).refuse_damaged(_index.pending_runs(folder))
        _atomic.write_bytes(path, _statement.canonical(begun) + b"\n")
        # until this process is gone, whatever ends it, others see that the run is under way
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return Pending(begun, folder, lock)


def note(pending: Pending, test: Tested) -> None:
    """Keep what one test of a run came to; it is on the disk when this returns, and a kill loses nothing of it."""
    _noted.append(pending.folder, pending.id, test)


def finish(pending: Pending, tests: Sequence[Tested]) -> Path:
    """Write the statement and its row; when this returns they are on the disk. The path of the statement.

    Raises UsageError (tests of a contract that was not fixed, a name twice), HostileFile (the model changed while it was
    tested, or what was fixed was touched), FormatError (a damaged store). The run is unfinished then, and can be abandoned.
    """
    begun = pending.begun
    fixed = {contract.id: contract.sha256 for contract in begun.contracts}
    for test in tests:
        if fixed.get(test.contract_id) != test.contract_sha256:
            raise UsageError(
                f"{test.name} was run for a contract with SHA-256 {test.contract_sha256[:12]}…, fixed before the run was "
                f"{fixed.get(test.contract_id, 'none of that id')[:12]}…; the contract changed, run it again"
            )
    names = [test.name for test in tests]
    if len(set(names)) < len(names):
        raise UsageError(f"a test twice among {', '.join(names)}; each has one verdict in a run")
    if (changed := _changed(begun)) is not None:
        raise HostileFile(changed, "changed while it was tested, so nothing that was found is about it; run it again")
    return _end(pending, tests, "finished")


def abandon(pending: Pending) -> Path:
    """End a run before its end (interrupted, an error of ours): it stays in the index as abandoned, with what it had noted."""
    return _end(pending, _still_held(pending.folder, pending.begun), "abandoned")


def _still_held(folder: Path, begun: Begun) -> tuple[Tested, ...]:
    """What a run had noted; nothing of it if a model is no longer what was tested."""
    found = _noted.read(folder, begun.id)
    return found if found and _changed(begun) is None else ()


def _changed(begun: Begun) -> str | None:
    """The path of a model that is not what it was before the run; None if all are."""
    for subject in (begun.model, begun.reference):
        try:
            if subject is not None and Subject.of(Path(subject.path)) != subject:
                return subject.path
        except AprError:
            return subject.path if subject is not None else None
    return None


def _end(pending: Pending, tests: Sequence[Tested], ended: Ended) -> Path:
    path = _index.pending_path(pending.folder, pending.id)
    if not path.exists() or _read_pending(path) != pending.begun:
        raise HostileFile(path, "what was fixed before the run was changed or removed while it ran; run it again")
    content = _statement.make(pending.begun, tests, finished_at=_now(), ended=ended)
    _statement.read(_index.statement_path(pending.folder, pending.id), content)  # what cannot be read is not written
    written = _write(pending.folder, pending.begun, content)
    os.close(pending._lock)
    return written


def _write(folder: Path, begun: Begun, content: bytes) -> Path:
    path = _index.statement_path(folder, begun.id)
    with _index.locked(folder, for_writing=True):
        pending = _index.pending_runs(folder)
        index = Index(folder)
        index.refuse_damaged(pending)
        if index.find(begun.id) is None:
            _atomic.write_bytes(path, content)
            index.append(begun.id, statement=content, written_at=_now(), pending=pending)
        index.settle()
        for run in pending:  # a writer that was killed after its row left its pending file
            if index.find(run) is not None:
                _index.pending_path(folder, run).unlink(missing_ok=True)
                _noted.path_of(folder, run).unlink(missing_ok=True)
        _atomic.sync_folder(folder / "pending")
    return path


def _read_pending(path: Path) -> Begun:
    from apr.formats import _json
    from apr.formats._documents import read_limited

    content = read_limited(path, max_bytes=_statement.MAX_BYTES)
    try:
        return _statement.begun_of(_json.parse_object(path, content, what="the begun run"))
    except (KeyError, TypeError, ValueError) as exc:
        raise FormatError(
            path, f"is no begun run of apr ({type(exc).__name__}: {exc}); restore it from a copy"
        ) from exc


def _is_about(tested: Subject, subject: Subject) -> bool:
    shared = {tested.tensors_sha256, *tested.files.values()} & {subject.tensors_sha256, *subject.files.values()}
    return bool(shared) or tested.name == subject.name


def _versions() -> dict[str, str]:
    found = {"apr": apr.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _machine() -> dict[str, str | int]:
    from apr.bench import _machine as here
    from apr.engines._language_model import default_threads

    return {
        "cpu": here.cpu_model(),
        "cores": default_threads(),
        "memory_bytes": here.memory_bytes(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _now(*, compact: bool = False) -> str:
    """UTC, ISO 8601; compact for a name."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ" if compact else "%Y-%m-%dT%H:%M:%SZ")
