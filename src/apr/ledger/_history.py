"""What a release was at each change, kept beside the evidence: a line of JSON a result that differs from the one before.

It is there to say what changed since last time, and to hold the head of the evidence where the evidence cannot rewrite it
by itself; no figure is computed from it.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apr import _atomic
from apr.ledger import _index

NAME = "ship.jsonl"
SCHEMA = "apr.ship-past/1"
SHOWN = 60  # results that a report holds

States = Mapping[str, Mapping[str, str]]  # by what it is of, by field


@dataclass(frozen=True, slots=True)
class Past:
    """A result that was kept.

    at:      when it was first so, UTC
    figure:  discharged weight of all weight, 0 to 1
    """

    at: str
    figure: float


@dataclass(frozen=True, slots=True)
class Change:
    """Something that is other than last time.

    of:      the criterion, MODEL/CRITERION, or the model
    what:    status, weight, blocking or tensors
    before:  null if it was not in the plan
    after:   null if it is not in the plan any more
    """

    of: str
    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What the earlier results say of this one, which is the last of `history`.

    since:  when the result that it is compared with was kept, UTC; None if there is none
    notes:  what could not be read or written
    """

    since: str | None
    changes: tuple[Change, ...]
    history: tuple[Past, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Line:
    at: str
    figure: float
    head: str | None
    states: States


def head(folder: Path, plan: str) -> str | None:
    """The last row of the evidence that a result was computed from; None if there is none."""
    heads = [line.head for line in _lines(folder, plan)[0] if line.head is not None]
    return heads[-1] if heads else None


def keep(folder: Path, plan: str, figure: float, states: States, *, head: str | None) -> Kept:
    """Compare a result with those before it, and keep it if it is another. A folder that is not there is not made."""
    if not folder.is_dir():
        return Kept(None, (), (Past(_now(), figure),), ())
    now = _Line(_now(), figure, head, states)
    notes: list[str] = []
    try:
        with _index.locked(folder, for_writing=True):
            earlier, unread = _lines(folder, plan)
            if _is_new(now, earlier):
                _append(folder, plan, now)
    except OSError as exc:
        earlier, unread = _lines(folder, plan)
        notes.append(f"{folder / NAME}: {exc.strerror}; this result is not kept for the next comparison")
    notes += unread
    if _is_new(now, earlier):
        earlier = [*earlier, now]
    *before, last = earlier
    compared = before[-1] if before else None
    return Kept(
        since=compared.at if compared is not None else None,
        changes=tuple(_changes(compared.states, states)) if compared is not None else (),
        history=tuple(Past(line.at, line.figure) for line in [*before, last][-SHOWN:]),
        notes=tuple(notes),
    )


def _is_new(now: _Line, earlier: Sequence[_Line]) -> bool:
    return not earlier or (earlier[-1].states, earlier[-1].figure) != (now.states, now.figure)


def _changes(before: States, after: States) -> Iterator[Change]:
    for of in dict.fromkeys([*after, *before]):
        was, now = before.get(of, {}), after.get(of, {})
        for what in dict.fromkeys([*now, *was]):
            if was.get(what) != now.get(what):
                yield Change(of, what, was.get(what), now.get(what))


def _append(folder: Path, plan: str, line: _Line) -> None:
    path = folder / NAME
    content = path.read_bytes() if path.exists() else b""
    fields = {"schema": SCHEMA, "plan": plan, "at": line.at, "figure": line.figure, "head": line.head}
    text = json.dumps({**fields, "states": line.states}, separators=(",", ":"))
    separator = b"" if not content or content.endswith(b"\n") else b"\n"
    _atomic.write_bytes(path, content + separator + text.encode("ascii") + b"\n")


def _lines(folder: Path, plan: str) -> tuple[list[_Line], list[str]]:
    """The results of a plan, and what in the file is none."""
    path = folder / NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], []
    found, unread = [], []
    for n, text in enumerate(content.splitlines(), start=1):
        try:
            fields = json.loads(text)
            if fields["plan"] == plan:
                found.append(_line(fields))
        except (ValueError, KeyError, TypeError, RecursionError):
            unread.append(f"{path}:{n} is no result of apr ship and is left out; remove the line")
    return found, unread


def _line(fields: Mapping[str, Any]) -> _Line:
    states = {str(of): {str(k): str(v) for k, v in values.items()} for of, values in _mapping(fields["states"]).items()}
    kept = fields["head"]
    return _Line(str(fields["at"]), float(fields["figure"]), str(kept) if kept is not None else None, states)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
        raise ValueError("states are no mapping")
    return value


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
