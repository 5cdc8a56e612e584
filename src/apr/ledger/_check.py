"""The `check:` of a falsification test, read: one gate, link or command, with arguments and what is expected."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from apr.errors import ContractError, UsageError
from apr.ledger import _pattern
from apr.ledger._expect import OPS, Expect, check_path
from apr.ledger._yaml import Tree, Where

_KINDS: tuple[Literal["gate", "link", "command"], ...] = ("gate", "link", "command")
_PROFILE = "--profile"
_DEFAULT_PROFILE = "release"
_LONGEST_SHOWN = 80
_VERSION = re.compile(r"v?(\d+\.\d+\.\d+[\w.+-]*)\b")


@dataclass(frozen=True, slots=True)
class Parts:
    """Of a check."""

    kind: Literal["gate", "link", "command"]
    name: str
    arguments: tuple[str, ...]
    expect: tuple[Expect, ...]


def read(value: Any, where: Where, tree: Tree, path: Path) -> Parts:
    """Understand a check. Raises ContractError with the line."""
    line = tree.line(*where)
    if not isinstance(value, dict):
        raise ContractError(path, "check: is no mapping; write check: {gate: NAME}, or link, or command", line=line)
    kinds = [kind for kind in _KINDS if kind in value]
    unknown = sorted(set(value) - {*_KINDS, "arguments", "expect"})
    if len(kinds) != 1 or unknown:
        found = ", ".join(unknown) if unknown else " and ".join(kinds) or "none of them"
        raise ContractError(
            path, f"check: has {found}; it has one of gate, link and command, arguments and expect", line=line
        )
    kind = kinds[0]
    given = value[kind]
    if not isinstance(given, str) or not given.strip():
        raise ContractError(path, f"check: {kind} is {given!r}; it is a name", line=tree.line(*where, kind))
    theirs = _arguments(value.get("arguments"), (*where, "arguments"), tree, path)
    name, arguments = _command_line(kind, given, theirs, path, tree.line(*where, kind))
    expect = _expectations(value.get("expect"), (*where, "expect"), tree, path)
    return Parts(kind, name, arguments, expect or _usual(kind, name))


def filled(arguments: Sequence[str], given: Mapping[str, str | None]) -> tuple[str, ...]:
    """Arguments with what stands for something replaced. Raises UsageError for what is needed and not given."""

    def value_of(place: re.Match[str]) -> str:
        value = given[place[0]]
        if value is None:
            raise UsageError(f"the check needs {place[0]} and there is none; give it with --{place[0].strip('{}')}")
        return value

    # in one pass: a model's name that holds {reference} stays as it is
    places = re.compile("|".join(map(re.escape, given)))
    return tuple(places.sub(value_of, argument) for argument in arguments)


def leading_version(text: str) -> str:
    """The version that a line of a changelog begins with; empty if it begins otherwise."""
    found = _VERSION.match(text)
    return found[1] if found else ""


def _arguments(value: Any, where: Where, tree: Tree, path: Path) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return _words(value, path, tree.line(*where))
    if not isinstance(value, list) or any(isinstance(item, list | dict) for item in value):
        raise ContractError(path, "arguments: is no list of words; write [--regime, raw]", line=tree.line(*where))
    return tuple(tree.texts.get((*where, i), str(item)) for i, item in enumerate(value))


def _words(text: str, path: Path, line: int) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as exc:
        raise ContractError(path, f"{text!r} is no command line: {exc}", line=line) from exc


def _command_line(kind: str, given: str, theirs: tuple[str, ...], path: Path, line: int) -> tuple[str, tuple[str, ...]]:
    """The name, and all that follows the command that runs it."""
    if kind == "gate":
        name = given.strip().replace("-", "_")
        profile = () if any(word.startswith(_PROFILE) for word in theirs) else (_PROFILE, _DEFAULT_PROFILE)
        return name, _json("{model}", "--only", name, *profile, *theirs)
    if kind == "link":
        name = given.strip()
        return name, _json("{reference}", "{model}", "--only", name, *theirs)
    words = _words(given, path, line)
    words = words[1:] if words[:1] == ("apr",) else words
    if not words:
        raise ContractError(path, f"command: {given!r} names no command of apr", line=line)
    return words[0], _json(*words[1:], *theirs)


def _json(*words: str) -> tuple[str, ...]:
    """With `--json`, in front: an option behind it cannot take it for its value."""
    return words if "--json" in words else ("--json", *words)


def _usual(kind: str, name: str) -> tuple[Expect, ...]:
    """What is expected where the check does not say: a gate passes, a link is the same. Of a command, nothing."""
    if kind == "gate":
        return (Expect(f"gates[id={name}].status", "equals", "pass"),)
    if kind == "link":
        return (Expect(f"links[link={name}].verdict", "equals", "same"),)
    return ()


def _expectations(value: Any, where: Where, tree: Tree, path: Path) -> tuple[Expect, ...]:
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(expectation(item, (*where, i), tree, path) for i, item in enumerate(value))
    return (expectation(value, where, tree, path),)


def expectation(value: Any, where: Where, tree: Tree, path: Path) -> Expect:
    """One condition. Raises ContractError with the line for what could never be judged."""
    line = tree.line(*where)
    ops = [op for op in OPS if isinstance(value, dict) and op in value]
    if not isinstance(value, dict) or len(ops) != 1 or set(value) - {"path", "interval", *ops}:
        message = f"expect: has {sorted(value) if isinstance(value, dict) else value!r}; it has path, one of {', '.join(OPS)}, and maybe interval"
        raise ContractError(path, message, line=line)
    one = Expect(str(value.get("path") or ""), ops[0], value[ops[0]], value.get("interval"))
    problem = _problem(one)
    if problem:
        raise ContractError(path, problem, line=line)
    return one


def _problem(one: Expect) -> str:
    """Why an expectation could never be judged; empty if it can."""
    try:
        check_path(one.path)
        if one.interval is not None:
            check_path(str(one.interval))
    except UsageError as exc:
        return str(exc)
    is_figure = one.op in ("at_least", "at_most")
    if is_figure and (
        isinstance(one.value, bool) or not isinstance(one.value, int | float) or not math.isfinite(one.value)
    ):
        return f"{one.op}: {one.value!r} is no number"
    if one.interval is not None and not is_figure:
        return f"interval: belongs to at_least and at_most, and stands beside {one.op}"
    if one.op == "one_of" and not (isinstance(one.value, list) and one.value):
        return f"one_of: {one.value!r} is no list of values"
    if one.op == "matches" and (said := _pattern.problem(one.value)):
        return f"matches: {_shown(one.value)} {said}"
    return ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
