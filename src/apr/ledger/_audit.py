"""Is a store of evidence as it was written? Every row, statement and envelope, and which runs never ended."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from apr import _atomic
from apr.errors import AprError
from apr.ledger import _index, _noted, _signing, _statement
from apr.ledger._index import DEFAULT_FOLDER, ENVELOPE_END, INDEX_NAME, STATEMENT_END, Index, Problem, Row


def problems(folder: Path, *, key: Path | None = None, head: str | None = None) -> list[Problem]:
    """Everything that is not as it was written; empty if all is.

    key:   a public key with which every statement must have been signed
    head:  the hash of a row, kept elsewhere: that row must still be there
    """
    with _index.locked(folder, for_writing=False):
        pending = _index.pending_runs(folder)
        index = Index(folder)
        found = index.check(pending)
        if head is not None and all(head != row.hash for row in index.rows):
            sentence = (
                f"no row has the hash {head[:12]}… that was kept elsewhere; rows were deleted or the index was written again, "
                "restore it from a copy"
            )
            found.append(Problem("index_rewritten", INDEX_NAME, sentence))
        for row in index.rows:
            found += _statement_of(row, folder, index)
            found += _envelope_of(row.id, folder, key)
        found += _unlisted(folder, index, pending)
        found += [
            _unfinished(run, folder) for run in pending if index.find(run) is None and not is_running(folder, run)
        ]
    return found


def is_running(folder: Path, run: str) -> bool:
    """Whether the process that began a run is still there: it holds a lock on what it wrote, and loses it with its life."""
    try:
        handle = os.open(_index.pending_path(folder, run), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _statement_of(row: Row, folder: Path, index: Index) -> Iterator[Problem]:
    path = _index.statement_path(folder, row.id)
    where = path.relative_to(folder).as_posix()
    try:
        content = path.read_bytes()
    except OSError as exc:
        sentence = (
            f"row {row.n} lists it, and it cannot be read ({exc.strerror}); it was deleted, restore it from a copy"
        )
        yield Problem("statement_deleted", where, sentence)
        return
    digest = _statement.sha256(content)
    if digest != row.sha256:
        if row.computed == row.hash:  # a row that was edited itself says nothing about its file
            yield _changed(row, content, digest, index, where)
        return
    try:
        run = _statement.read(path, content).begun.id
        said = f"is about the run {run}" if run != row.id else None
    except AprError as exc:
        said = str(exc)
    if said is not None:
        sentence = f"{said}; row {row.n} lists it so, and apr did not write it: ask who added it"
        yield Problem("statement_malformed", where, sentence)


def _changed(row: Row, content: bytes, digest: str, index: Index, where: str) -> Problem:
    other = next((other for other in index.rows if other.sha256 == digest), None)
    if other is not None:
        sentence = (
            f"holds the statement of {other.id} (row {other.n}); files were swapped or copied, restore both from a copy"
        )
        return Problem("statement_swapped", where, sentence)
    compared = (
        f"SHA-256 {digest[:12]}… and {len(content)} bytes found, {row.sha256[:12]}… and {row.size_bytes} expected"
    )
    if len(content) < row.size_bytes and not content.rstrip().endswith(b"\n}"):
        return Problem("statement_truncated", where, f"{compared}; the file was cut short, restore it from a copy")
    return Problem("statement_edited", where, f"{compared}; it was edited after it was written, restore it from a copy")


def _envelope_of(run: str, folder: Path, key: Path | None) -> Iterator[Problem]:
    path, statement = _index.envelope_path(folder, run), _index.statement_path(folder, run)
    where = path.relative_to(folder).as_posix()
    if not path.exists():
        if key is not None:
            sentence = f"{statement.name} is not signed; next: apr evidence sign {run} --key PRIVATE{_in(folder)}"
            yield Problem("signature_missing", where, sentence)
        return
    try:
        payload = _signing.payload_of(path)
    except AprError as exc:
        yield Problem("envelope_differs", where, str(exc))
        return
    if statement.exists() and payload != statement.read_bytes():
        sentence = f"what was signed is not {statement.name}; one of them was changed, restore both from a copy"
        yield Problem("envelope_differs", where, sentence)
        return
    if key is not None and (said := _signing.why_not_signed_by(path, key)) is not None:
        yield Problem("signature_wrong", where, said)


def _unlisted(folder: Path, index: Index, pending: list[str]) -> Iterator[Problem]:
    listed = {row.id for row in index.rows}
    for path in sorted((folder / "statements").glob("*.json")):
        if path.name.startswith(_atomic.PREFIX):
            continue  # a writer that was killed; its run is named as unfinished
        run = path.name.removesuffix(STATEMENT_END).removesuffix(ENVELOPE_END)
        if run in listed or run in pending:
            continue
        if path.name.endswith(ENVELOPE_END) and path.with_name(f"{run}{STATEMENT_END}").exists():
            continue  # the statement beside it is named
        sentence = "no row lists it; its row was deleted, or the file was put here by another hand"
        yield Problem("statement_not_listed", path.relative_to(folder).as_posix(), sentence)


def _unfinished(run: str, folder: Path) -> Problem:
    path = _index.pending_path(folder, run)
    written = " (its statement was written and not listed)" if _index.statement_path(folder, run).exists() else ""
    noted = _noted.path_of(folder, run)
    n = noted.read_bytes().count(b"\n") if noted.exists() else 0
    reported = f"{n} of its tests were reported, which closing it keeps" if n else "nothing was reported of it"
    sentence = (
        f"the run {run} was begun and never ended{written}: {reported}; next: apr evidence close {run}{_in(folder)}"
    )
    return Problem("unfinished", path.relative_to(folder).as_posix(), sentence)


def _in(folder: Path) -> str:
    """What names a store on the command line."""
    return "" if folder == DEFAULT_FOLDER else f" --store {shlex.quote(str(folder))}"
