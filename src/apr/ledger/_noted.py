"""What a run has found so far: a line of JSON a test, on the disk before anybody is told of it.

The lines lie beside what was fixed for the run, and go when its statement is listed. Of a run that is killed they are what
`close` makes its statement of; a last line that was cut off was never reported.
"""

from __future__ import annotations

import json
from pathlib import Path

from apr import _atomic
from apr.errors import FormatError
from apr.ledger import _index, _statement
from apr.ledger._statement import Tested


def path_of(folder: Path, run: str) -> Path:
    """Where the lines of a run lie in a store."""
    return _index.pending_path(folder, run).with_suffix(".tests.jsonl")


def append(folder: Path, run: str, test: Tested) -> None:
    """Note one test; it is on the disk when this returns."""
    _atomic.append(path_of(folder, run), _statement.canonical(test) + b"\n")


def read(folder: Path, run: str) -> tuple[Tested, ...]:
    """The tests that were noted. Raises FormatError for a whole line that is none."""
    path = path_of(folder, run)
    if not path.exists():
        return ()
    *lines, _ = path.read_bytes().split(b"\n")
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(_statement.tested_of(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            message = f"line {number} is no test that apr noted ({type(exc).__name__}: {exc}); restore it from a copy"
            raise FormatError(path, message) from exc
    return tuple(found)
