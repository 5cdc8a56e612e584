"""What a run has come to, kept as it comes: JSON lines, each on the disk before the next is begun.

The first line says under what settings. A run that was killed is taken up where it stopped: what is there is not asked
again, half a last line is cut off and said, anything else that is wrong is refused.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from apr import _atomic
from apr._plain import plain
from apr.errors import FormatError, UsageError

SCHEMA = "apr.eval-journal/1"
Entry = dict[str, Any]


class Journal:
    """An open journal. Entries are known by kind and id; each is written once.

    was_cut:  bytes of a half-written last line that were removed
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Open a journal, or begin one.

        Raises UsageError if another process writes it, or if it was begun under other settings; FormatError if it is
        damaged elsewhere than at its end.
        """
        self.path = path
        self.was_cut = 0
        self._entries: dict[tuple[str, str], Entry] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise UsageError(f"{path}: cannot be written ({exc.strerror}); give another --out") from exc
        try:
            self._lock()
            self._read(dict(plain(settings)))
        except BaseException:
            os.close(self._file)
            raise
        self._resumed = frozenset(self._entries)

    def add(self, kind: str, item: str, **content: Any) -> None:
        """Write an entry and wait until it is on the disk."""
        key = (kind, item)
        assert key not in self._entries, f"{kind} of {item} is there already"
        entry: Entry = {"kind": kind, "id": item, **plain(content)}
        self._write(entry)
        self._entries[key] = entry

    def get(self, kind: str, item: str) -> Entry | None:
        """The entry of that kind and id; None if there is none."""
        return self._entries.get((kind, item))

    def resumed(self, kind: str, item: str) -> bool:
        """Whether the entry was there when the journal was opened."""
        return (kind, item) in self._resumed

    def close(self) -> None:
        """Let others write."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise UsageError(f"{self.path}: another run is writing it; wait for it, or give another --out") from exc

    def _read(self, settings: dict[str, Any]) -> None:
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1
        if end < len(data):  # the writer was killed in the middle of a line, and nobody has counted it
            self.was_cut = len(data) - end
            os.ftruncate(self._file, end)
        if end == 0:
            self._write({"kind": "header", "schema": SCHEMA, "settings": settings})
            _atomic.sync_folder(self.path.parent)
            return
        for number, (offset, line) in enumerate(_lines(data[:end]), start=1):
            entry = self._parsed(line, offset)
            if number == 1:
                self._check(entry, settings)
                continue
            key = (str(entry.get("kind")), str(entry.get("id")))
            if key in self._entries:
                raise FormatError(self.path, f"line {number}: the {key[0]} of {key[1]} a second time", offset=offset)
            self._entries[key] = entry

    def _parsed(self, line: bytes, offset: int) -> Entry:
        try:
            entry = json.loads(line)
        except ValueError as exc:
            raise FormatError(
                self.path, f"no JSON ({exc}); this is no journal, or it is damaged", offset=offset
            ) from exc
        if not isinstance(entry, dict) or "kind" not in entry:
            raise FormatError(self.path, "no entry of a journal", offset=offset)
        return entry

    def _check(self, header: Entry, settings: dict[str, Any]) -> None:
        if header.get("schema") != SCHEMA:
            raise FormatError(self.path, f"schema {header.get('schema')!r} found, {SCHEMA!r} expected", offset=0)
        begun = header["settings"]
        for key in sorted({*begun, *settings}):
            if begun.get(key) != settings.get(key):
                raise UsageError(
                    f"{self.path} was begun with {key} = {json.dumps(begun.get(key))}, and now it is "
                    f"{json.dumps(settings.get(key))}; ask the same, or give another --out"
                )

    def _write(self, entry: Entry) -> None:
        data = (json.dumps(entry, allow_nan=False, separators=(",", ":")) + "\n").encode("ascii")
        with memoryview(data) as whole:
            view = whole
            while view:
                view = view[os.write(self._file, view) :]
        os.fsync(self._file)


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    for line in data.split(b"\n")[:-1]:
        yield offset, line
        offset += len(line) + 1
