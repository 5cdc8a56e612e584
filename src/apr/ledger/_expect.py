"""What a check expects of the JSON document that a command leaves, and the judgement of it.

A verdict that decides nothing (undecided, skip, cannot_tell, exit code 5) neither keeps nor breaks a promise; a figure with
an interval keeps it only if the whole interval does.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from apr.errors import UsageError
from apr.ledger import _pattern

Op = Literal["equals", "one_of", "at_least", "at_most", "matches"]
OPS: tuple[Op, ...] = get_args(Op)
Status = Literal["pass", "fail", "undecided", "error"]
_WEIGHTS: tuple[Status, ...] = ("pass", "undecided", "error", "fail")  # lightest first; all together are the heaviest

# words by which gates and links say that they came to no result
_OPEN_WORDS = frozenset({"undecided", "skip", "skipped", "cannot_tell", "not_comparable"})
_OPEN_EXIT = 5
_REJECTED_EXIT = 3
# usage, an engine or our bug, interrupted: the check failed, not the model
_BROKEN_EXITS = (2, 4, 130)
_ERROR_SCHEMA = "apr.error/1"
_STEP = re.compile(r"\.?([A-Za-z_][\w@-]*)|\[(\d+)\]|\[([^\[\]=]+=[^\[\]]*)\]")
_LONGEST_SHOWN = 80
# characters of generated text that a pattern is run over
_LONGEST_SEARCHED = 20_000

_Missing = object()


@dataclass(frozen=True, slots=True)
class Expect:
    """One condition on the document.

    path:      `status`, `scores[0].value`, `gates[id=golden_output].status`, `scores[name=pass@1,regime=raw].value`,
               `exit_code` (the command's own, if the document has none)
    value:     what it is held against; of `matches`, a regular expression that is searched for
    interval:  path of a [low, high] around the figure: at_least and at_most then pass, fail or are undecided
    """

    path: str
    op: Op
    value: Any
    interval: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a document says to all that was expected of it.

    status:    fail before error before undecided; pass only if every condition does
    sentence:  of the condition that decided; of a pass, all of them
    observed:  by path, what was found
    interval:  of the condition that decided, if it has one
    """

    status: Status
    sentence: str
    observed: dict[str, Any]
    interval: tuple[float, float] | None = None


def judge(expect: Sequence[Expect], document: Mapping[str, Any]) -> Outcome:
    """Hold a document against what is expected of it. Expecting nothing is an error, not a pass."""
    if not expect:
        return Outcome("error", "the check expects nothing, so nothing can keep or break it", {})
    observed: dict[str, Any] = {}
    found = []
    for one in expect:
        value = look_up(document, one.path)
        observed[one.path] = None if value is _Missing else value
        found.append(_missing(one, document) if value is _Missing else _one(one, value, document, observed))
    worst = max(found, key=lambda outcome: _WEIGHTS.index(outcome[0]))
    sentence = "; ".join(said for _, said, _ in found) if worst[0] == "pass" else worst[1]
    interval = worst[2] or next((i for _, _, i in found if i is not None and worst[0] == "pass"), None)
    return Outcome(worst[0], sentence, observed, interval)


def check_path(path: str) -> None:
    """Raise UsageError for a path that could never lead anywhere."""
    _steps(path)


def look_up(document: Any, path: str) -> Any:
    """The value at a path; `_Missing` if there is none."""
    found = document
    for step in _steps(path):
        if isinstance(step, dict):
            rows = found if isinstance(found, list) else ()
            like = (
                row
                for row in rows
                if isinstance(row, Mapping) and all(_spelled(row.get(k)) == v for k, v in step.items())
            )
            found = next(like, _Missing)
        elif isinstance(step, int):
            found = found[step] if isinstance(found, list) and step < len(found) else _Missing
        else:
            found = found.get(step, _Missing) if isinstance(found, Mapping) else _Missing
        if found is _Missing:
            return _Missing
    return found


def _steps(path: str) -> list[str | int | dict[str, str]]:
    steps: list[str | int | dict[str, str]] = []
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None or (at > 0 and step[1] and path[at] != ".") or (at == 0 and path[0] == "."):
            break
        if step[1]:
            steps.append(step[1])
        elif step[2]:
            steps.append(int(step[2]))
        else:
            steps.append({key.strip(): v.strip() for key, _, v in (c.partition("=") for c in step[3].split(","))})
        at = step.end()
    if at < len(path) or not steps:
        raise UsageError(f"the path {path!r} is no path; write a.b, a[0].b or a[id=golden_output].b")
    return steps


def _spelled(value: Any) -> str:
    """A value as a path spells it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


Judged = tuple[Status, str, "tuple[float, float] | None"]


def _missing(one: Expect, document: Mapping[str, Any]) -> Judged:
    """A command that was refused its input breaks the promise; any other document without the value is an error."""
    if document.get("schema") == _ERROR_SCHEMA:
        status: Status = "fail" if document.get("exit_code") == _REJECTED_EXIT else "error"
        return status, f"the command ended before it came to {one.path}: {document.get('message')}", None
    return "error", f"the result has no {one.path}; the path must be one of its schema {document.get('schema')}", None


def _one(one: Expect, value: Any, document: Mapping[str, Any], observed: dict[str, Any]) -> Judged:
    if one.op in ("at_least", "at_most"):
        return _figure(one, value, document, observed)
    if one.op == "matches":
        if value is None:  # what is not there matches nothing: a licence that the file does not name
            return "fail", f"{one.path} is null, expected to match {one.value!r}", None
        if not isinstance(value, str):
            return "error", f"{one.path} is {_shown(value)}, and a pattern wants text", None
        try:
            is_kept = _pattern.is_found(str(one.value), value[:_LONGEST_SEARCHED])
        except UsageError as exc:
            return "error", f"{one.path}: {exc}", None
        said = f"{one.path} is {_shown(value)}, {'which matches' if is_kept else 'expected to match'} {one.value!r}"
        return ("pass" if is_kept else "fail"), said, None
    allowed = list(one.value) if one.op == "one_of" else [one.value]
    wanted = " or ".join(_shown(item) for item in allowed)
    if any(_equal(value, item) for item in allowed):
        return "pass", f"{one.path} is {_shown(value)}", None
    return _unlike(one.path, value), f"{one.path} is {_shown(value)}, expected {wanted}", None


def _unlike(path: str, value: Any) -> Status:
    """What a value that is not the expected one means."""
    if path.endswith("exit_code"):
        return "undecided" if value == _OPEN_EXIT else "error" if value in _BROKEN_EXITS else "fail"
    if isinstance(value, str) and value in _OPEN_WORDS:
        return "undecided"
    return "error" if value == "error" and path.rpartition(".")[2] in ("status", "verdict") else "fail"


def _figure(one: Expect, value: Any, document: Mapping[str, Any], observed: dict[str, Any]) -> Judged:
    bound = float(one.value)
    if not _is_finite(value):
        return "error", f"{one.path} is {_shown(value)}, expected a number", None
    sense = "at least" if one.op == "at_least" else "at most"
    if one.interval is None:
        is_kept = value >= bound if one.op == "at_least" else value <= bound
        return ("pass" if is_kept else "fail"), f"{one.path} is {value:g}, promised {sense} {bound:g}", None
    found = look_up(document, one.interval)
    observed[one.interval] = None if found is _Missing else found
    if not (
        isinstance(found, list | tuple) and len(found) == 2 and all(map(_is_finite, found)) and found[0] <= found[1]
    ):
        shown = "not there" if found is _Missing else _shown(found)
        return "error", f"{one.interval} is {shown}, expected [low, high]; a figure alone decides nothing", None
    low, high = float(found[0]), float(found[1])
    said = f"{one.path} is {value:g} ({low:g} to {high:g}), promised {sense} {bound:g}"
    is_kept = low >= bound if one.op == "at_least" else high <= bound
    is_broken = high < bound if one.op == "at_least" else low > bound
    return ("pass" if is_kept else "fail" if is_broken else "undecided"), said, (low, high)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _equal(found: Any, wanted: Any) -> bool:
    """Equal, and of one kind: true is not 1, "1" is not 1."""
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return found == wanted
    return type(found) is type(wanted) and bool(found == wanted)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
