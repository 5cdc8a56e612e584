"""Two versions of one check: does the later ask for less?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from apr.ledger._figures import Sense, Turn, turn
from apr.ledger.contract import Check, Expect

_PROFILES = ("smoke", "release")
# options that say how much is looked at: fewer is less, and to give one where there was none is less too
_COVERAGE = ("--limit", "--chunks", "--samples", "--repeats")

Found = tuple[Turn, str, str | None, str | None, str]  # turn, field, old, new, sentence


def differences(old: Check, new: Check) -> Iterator[Found]:
    """What changed between two checks of one test."""
    if (old.kind, old.name) != (new.kind, new.name):
        before, after = f"{old.kind} {old.name}", f"{new.kind} {new.name}"
        yield "changed", "name", before, after, f"the check was the {before} and is the {after}"
        return
    yield from _arguments(old.arguments, new.arguments)
    yield from _expectations(old.expect, new.expect)


def _arguments(old: Sequence[str], new: Sequence[str]) -> Iterator[Found]:
    if old == new:
        return
    line = (" ".join(old), " ".join(new))
    before, after = _option(old, "--profile"), _option(new, "--profile")
    if before in _PROFILES and after in _PROFILES and before != after:
        is_less = _PROFILES.index(after) < _PROFILES.index(before)
        yield (
            ("weakened" if is_less else "strengthened"),
            "arguments",
            *line,
            f"the profile was {before} and is {after}",
        )
        return
    for name in _COVERAGE:
        before, after = _option(old, name), _option(new, name)
        if before == after:
            continue
        first, then = _number(before, name), _number(after, name)
        if first is not None and then is not None and first != then:
            said = f"{name} was {before or 'not given'} and is {after or 'not given'}"
            yield turn("floor", first, then), "arguments", *line, said
            return
    yield "changed", "arguments", *line, f"its arguments were {line[0]!r} and are {line[1]!r}"


def _option(words: Sequence[str], name: str) -> str:
    for i, word in enumerate(words):
        if word == name and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""


def _number(text: str, name: str) -> float | None:
    if not text:
        # without a limit everything is looked at; without --samples or --repeats, what the command does by itself
        return float("inf") if name in ("--limit", "--chunks") else None
    try:
        return float(text)
    except ValueError:
        return None


def _expectations(old: Sequence[Expect], new: Sequence[Expect]) -> Iterator[Found]:
    before, after = ({(one.path, _side(one)): one for one in expect} for expect in (old, new))
    for key, one in before.items():
        if key not in after:
            yield "weakened", key[0], _said(one), None, f"{_said(one)} is no longer expected"
        else:
            yield from _expectation(one, after[key])
    for key, one in after.items():
        if key not in before:
            yield "strengthened", key[0], None, _said(one), f"{_said(one)} is expected too"


def _side(one: Expect) -> str:
    return {"equals": "values", "one_of": "values"}.get(one.op, one.op)


def _expectation(old: Expect, new: Expect) -> Iterator[Found]:
    if old == new:
        return
    said = (_said(old), _said(new))
    what = f"expected was {said[0]} and is {said[1]}"
    if old.op in ("at_least", "at_most") and old.value != new.value:
        sense: Sense = "floor" if old.op == "at_least" else "ceiling"
        yield turn(sense, float(old.value), float(new.value)), old.path, *said, what
    if old.interval != new.interval:
        turned: Turn = "weakened" if new.interval is None else "strengthened" if old.interval is None else "changed"
        why = ": the figure alone decides now" if new.interval is None else ""
        yield turned, old.path, *said, f"the interval of {old.path} was {old.interval} and is {new.interval}{why}"
    if _side(old) == "values":
        yield _values(_allowed(old), _allowed(new)), old.path, *said, what
    elif old.op == "matches":
        yield "changed", old.path, *said, what


def _values(old: list[Any], new: list[Any]) -> Turn:
    if all(value in new for value in old):
        return "weakened"
    return "strengthened" if all(value in old for value in new) else "changed"


def _allowed(one: Expect) -> list[Any]:
    return list(one.value) if one.op == "one_of" else [one.value]


def _said(one: Expect) -> str:
    return f"{one.path} {one.op.replace('_', ' ')} {one.value}"
