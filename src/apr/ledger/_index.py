"""The index of a store of evidence: a line of JSON a run, appended and never changed, each holding the hash of the line before.

JSON lines with fdatasync rather than sqlite: both lost none of some thousand acknowledged records under SIGKILL, and a text
file beside the statements can be committed, read in a diff, and followed with sha256sum.

A chain cannot tell that its end is missing. So `head.json` says, whole or not at all, how many rows there are and the hash of the
last; it is written after its row, and may be one row behind where a writer was killed between the two.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from apr import _atomic
from apr.errors import FormatError, UsageError
from apr.ledger._statement import canonical, sha256

DEFAULT_FOLDER = Path("evidence")
INDEX_NAME = "index.jsonl"
HEAD_NAME = "head.json"
LOCK_NAME = ".lock"
STATEMENT_END = ".intoto.json"
ENVELOPE_END = ".dsse.json"
GENESIS = "0" * 64  # what the first row has for the hash of the row before
SCHEMA = "apr.evidence-row/1"
ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")  # of a run; also the stem of its file, so nothing else may pass

ProblemKind = Literal[
    "unfinished",
    "index_half_row",
    "index_unreadable_row",
    "index_row_edited",
    "index_row_deleted",
    "index_rows_swapped",
    "index_row_added",
    "index_truncated",
    "index_rewritten",
    "head_damaged",
    "statement_deleted",
    "statement_truncated",
    "statement_swapped",
    "statement_edited",
    "statement_malformed",
    "statement_not_listed",
    "envelope_differs",
    "signature_wrong",
    "signature_missing",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a store that is not as it was written.

    kind:      what happened, a word that never changes
    where:     the file, with its line where it has lines
    sentence:  what was found, what was expected, what to do
    """

    kind: ProblemKind
    where: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the index.

    n:           counted from 1
    id:          of the run
    written_at:  UTC, ISO 8601
    sha256:      of the statement's file
    size_bytes:  of the statement's file
    previous:    hash of the row before
    hash:        SHA-256 of the canonical JSON of all the others
    """

    n: int
    id: str
    written_at: str
    sha256: str
    size_bytes: int
    previous: str
    hash: str

    @property
    def computed(self) -> str:
        """The hash that the row should have."""
        return sha256(
            canonical(_unhashed(self.n, self.id, self.written_at, self.sha256, self.size_bytes, self.previous))
        )


@dataclass(frozen=True, slots=True)
class Head:
    """How many rows there were after the last write, and the hash of the last."""

    n: int
    hash: str


@contextlib.contextmanager
def locked(folder: Path, *, for_writing: bool) -> Iterator[None]:
    """Hold a store while it is written, or while it is looked at as a whole. A store without a lock file has no writer."""
    path = folder / LOCK_NAME
    if not for_writing and not path.exists():
        yield
        return
    handle = os.open(path, (os.O_RDWR | os.O_CREAT if for_writing else os.O_RDONLY) | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if for_writing else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


class Index:
    """The rows of a store as they are on the disk; to be used while the store is `locked`.

    rows:      what could be read, in the order of the file
    problems:  what is wrong with the rows themselves, before they are held against each other
    torn:      bytes of a half-written last line
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / INDEX_NAME
        self.head_path = folder / HEAD_NAME
        self.rows: list[Row] = []
        self.problems: list[Problem] = []
        data = self.path.read_bytes() if self.path.exists() else b""
        end = data.rfind(b"\n") + 1
        self.torn = len(data) - end
        for number, line in enumerate(data[:end].split(b"\n")[:-1], start=1):
            self._read(number, line)
        self.head = self._read_head()

    def find(self, run: str) -> Row | None:
        """The row of a run."""
        return next((row for row in self.rows if row.id == run), None)

    def check(self, pending: Sequence[str] = ()) -> list[Problem]:
        """Everything that is wrong with the index.

        pending:  runs that were begun and are not known to have ended
        """
        found = [*self.problems, *self._check_numbers(), *self._check_chain(), *self._check_head(pending)]
        if self.torn and not any(problem.kind == "index_truncated" for problem in found):
            sentence = (
                f"{self.torn} bytes after the last whole row: its writer was killed, and nothing was reported; the next "
                "run that is written, or apr evidence close, cuts them off"
            )
            found.append(Problem("index_half_row", self._line(len(self.rows) + 1), sentence))
        return found

    def append(self, run: str, *, statement: bytes, written_at: str, pending: Sequence[str]) -> Row:
        """Add a row and wait until it is on the disk.

        Raises FormatError if the index is not as it was left: a row after that would cover it up.
        """
        self.refuse_damaged(pending)
        self.settle()  # or a writer that is killed now would leave the head two rows behind
        previous = self.rows[-1].hash if self.rows else GENESIS
        values = _unhashed(len(self.rows) + 1, run, written_at, sha256(statement), len(statement), previous)
        row = Row(**values, hash=sha256(canonical(values)))
        line = json.dumps({"schema": SCHEMA, **values, "hash": row.hash}, separators=(",", ":")).encode("ascii") + b"\n"
        if self.torn:
            os.truncate(self.path, self.path.stat().st_size - self.torn)
            self.torn = 0
        _atomic.append(self.path, line)
        self.rows.append(row)
        self.settle()
        return row

    def refuse_damaged(self, pending: Sequence[str]) -> None:
        """Raise FormatError if the index is not as it was left."""
        for problem in self.check(pending):
            if problem.kind != "index_half_row":
                raise FormatError(
                    self.path,
                    f"{problem.sentence} ({problem.kind}); nothing is added to a damaged index: apr evidence verify names "
                    "all of it, then restore it, or begin another store with --store",
                )

    def settle(self) -> None:
        """Let the head say what the rows say."""
        if self.rows and self.head != (now := Head(self.rows[-1].n, self.rows[-1].hash)):
            _atomic.write_bytes(self.head_path, json.dumps({"n": now.n, "hash": now.hash}).encode("ascii") + b"\n")
            self.head = now

    def _read(self, number: int, line: bytes) -> None:
        try:
            values = json.loads(line)
            if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
                raise ValueError("no row of an index")
            row = Row(**values)
            numbers, texts = (row.n, row.size_bytes), (row.id, row.written_at, row.sha256, row.previous, row.hash)
            if not (
                all(type(n) is int for n in numbers) and all(type(t) is str for t in texts) and ID.fullmatch(row.id)
            ):
                raise ValueError("a field has the wrong form")
        except (ValueError, TypeError, RecursionError) as exc:
            sentence = f"cannot be read ({str(exc)[:80]}); a row was damaged, restore the line from a copy"
            self.problems.append(Problem("index_unreadable_row", self._line(number), sentence))
            return
        if row.computed != row.hash:
            sentence = (
                f"the row of {row.id} has the hash {row.hash[:12]}…, its fields have {row.computed[:12]}…; it was edited after "
                "it was written, restore the line from a copy"
            )
            self.problems.append(Problem("index_row_edited", self._line(number), sentence))
        self.rows.append(row)

    def _read_head(self) -> Head | None:
        """None if there is none, or if it is damaged, which is a problem then."""
        if not self.head_path.exists():
            return None
        try:
            values: dict[str, Any] = json.loads(self.head_path.read_bytes())
            head = Head(values["n"], values["hash"])
            if type(head.n) is int and isinstance(head.hash, str):
                return head
            said = "a field has the wrong form"
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            said = str(exc)[:80]
        sentence = f"cannot be read ({said}), so nobody can tell whether rows are missing; restore it from a copy"
        self.problems.append(Problem("head_damaged", HEAD_NAME, sentence))
        return Head(-1, "")

    def _check_numbers(self) -> list[Problem]:
        """Rows out of their order, twice, or missing between others."""
        numbers = [row.n for row in self.rows]
        found = []
        for before, after in pairwise(numbers):
            if after <= before:
                sentence = f"row {after} stands after row {before}; rows were swapped or copied, put the lines back in the order of n"
                found.append(Problem("index_rows_swapped", INDEX_NAME, sentence))
        unreadable = sum(problem.kind == "index_unreadable_row" for problem in self.problems)
        missing = sorted(set(range(1, max(numbers, default=0))) - set(numbers))
        for n in missing[unreadable:]:
            sentence = f"row {n} is missing between others; it was deleted, restore the line from a copy"
            found.append(Problem("index_row_deleted", INDEX_NAME, sentence))
        return found

    def _check_chain(self) -> list[Problem]:
        """A row whose hash is right and is not the one that the next row remembers: it was written again."""
        found = []
        by_number = {row.n: row for row in self.rows}
        edited = {problem.where for problem in self.problems if problem.kind == "index_row_edited"}
        for row in self.rows:
            before = by_number.get(row.n - 1)
            expected = {GENESIS} if row.n == 1 else {before.hash, before.computed} if before is not None else None
            if expected is None or row.previous in expected or self._line(row.n) in edited:
                continue
            sentence = (
                f"row {row.n} remembers {row.previous[:12]}… as the row before it, which is not there; row {row.n - 1} was "
                "replaced, restore the line from a copy"
            )
            found.append(Problem("index_row_edited", self._line(max(row.n - 1, 1)), sentence))
        return found

    def _check_head(self, pending: Sequence[str]) -> list[Problem]:
        if self.head is not None and self.head.n < 0:
            return []
        head = self.head or Head(0, GENESIS)
        last = max((row.n for row in self.rows), default=0)
        unreadable = sum(problem.kind == "index_unreadable_row" for problem in self.problems)
        if last < head.n <= last + unreadable:
            return []  # the rows that cannot be read are named already
        if last < head.n:
            lost = f"row {head.n}" if head.n - last == 1 else f"rows {last + 1} to {head.n}"
            sentence = f"{lost} of {head.n} are gone from the end; the index was cut, restore it from a copy"
            return [Problem("index_truncated", INDEX_NAME, sentence)]
        at = next((row for row in self.rows if row.n == head.n), None)
        if at is not None and head.hash not in (at.hash, at.computed):
            if any(problem.kind == "index_row_edited" for problem in self.problems):
                return []  # the row that was edited is named already
            sentence = (
                f"row {head.n} has the hash {at.hash[:12]}…, {HEAD_NAME} says {head.hash[:12]}…; the index was written again as a "
                "whole, restore both from a copy"
            )
            return [Problem("index_rewritten", INDEX_NAME, sentence)]
        beyond = sorted(row.n for row in self.rows if row.n > head.n)
        # a writer that was killed after its row and before the head has left its run as pending
        if len(beyond) == 1 and (row := self.rows[-1]).n == beyond[0] and row.id in pending:
            return []
        if beyond:
            sentence = (
                f"{HEAD_NAME} knows {head.n} rows, and there are {last}; rows were added by another hand, or {HEAD_NAME} is an old "
                "one or was removed, restore it from a copy"
            )
            return [Problem("index_row_added", INDEX_NAME, sentence)]
        return []

    def _line(self, number: int) -> str:
        return f"{INDEX_NAME}, line {number}"


def check_id(run: str) -> str:
    """The id itself. Raises UsageError for anything that is no id of a run, so that it never becomes a path."""
    if not ID.fullmatch(run):
        raise UsageError(
            f"{run!r} is no id of a run, which looks like 20260102T030405Z-0a1b2c3d; apr evidence list shows them"
        )
    return run


def statement_path(folder: Path, run: str) -> Path:
    """Where the statement of a run lies in a store."""
    return folder / "statements" / f"{check_id(run)}{STATEMENT_END}"


def envelope_path(folder: Path, run: str) -> Path:
    """Where its signed envelope lies, if there is one."""
    return folder / "statements" / f"{check_id(run)}{ENVELOPE_END}"


def pending_path(folder: Path, run: str) -> Path:
    """Where what was fixed before the run lies until it has ended."""
    return folder / "pending" / f"{check_id(run)}.json"


def pending_runs(folder: Path) -> list[str]:
    """Runs that were begun and are not known to have ended, the oldest first."""
    return sorted(path.stem for path in (folder / "pending").glob("*.json") if ID.fullmatch(path.stem))


def _unhashed(n: int, run: str, written_at: str, digest: str, size_bytes: int, previous: str) -> dict[str, Any]:
    return {
        "n": n,
        "id": run,
        "written_at": written_at,
        "sha256": digest,
        "size_bytes": size_bytes,
        "previous": previous,
    }
