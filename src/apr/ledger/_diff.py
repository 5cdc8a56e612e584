"""Two versions of one contract: what the later promises less, and whether its version says so.

Upstream's rule for versions: MAJOR for an equation removed, a tolerance tightened, a new required obligation; MINOR for what
is only added; PATCH for wording. A promise that is loosened or gone is MAJOR too: whoever relied on it must notice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from apr.errors import UsageError
from apr.ledger import _binding, _diff_check
from apr.ledger._changelog import numbers
from apr.ledger._figures import Turn, figures, sense_of, turn, turn_of_text
from apr.ledger.contract import Contract, Falsification, Obligation

Kind = Literal["weakened", "strengthened", "added", "changed", "reworded"]
Size = Literal["none", "patch", "minor", "major"]
Bump = Literal["none", "patch", "minor", "major", "backwards", "unknown"]
Fit = Literal["right", "too small", "too large", "backwards", "unknown"]

SIZES: tuple[Size, ...] = ("none", "patch", "minor", "major")
_TEXTS = (
    "rule",
    "prediction",
    "if_fails",
    "formula",
    "formal",
    "property",
    "domain",
    "codomain",
    "description",
    "name",
)
_READ_ELSEWHERE = frozenset({
    "metadata", "equations", "proof_obligations", "obligations", "falsification_tests", "falsification", "falsifiers",
    "changelog", "version", "status", "id", "contract_id", "verification_summary",
})  # fmt: skip
# what moves while a promise stays what it is
_BOOKKEEPING = frozenset({
    "discharge_status", "status", "evidence_discharged_by", "discharged_evidence", "partial_discharge_note",
    "full_discharge_blocks_on", "evidence", "notes", "note", "references", "restated_because",
})  # fmt: skip
# what a contract promises besides its tests; the rest of a file explains
_PROMISES = frozenset(
    {"acceptance_criteria", "rejection_criteria", "qa_gate", "enforcement", "thresholds", "invariants"}
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that changed.

    kind:      weakened, strengthened, added, changed (which way nobody can tell) or reworded
    what:      the test, obligation, equation or block, and the field in it
    old, new:  as text; null where there was or is nothing
    line:      in the new file, or in the old one if it is gone from the new
    size:      of the version step that it asks for
    sentence:  the same in words
    """

    kind: Kind
    what: str
    old: str | None
    new: str | None
    line: int
    size: Size
    sentence: str


@dataclass(frozen=True, slots=True)
class ContractDiff:
    """What `apr contract diff` found.

    id:           of the contract
    old, new:     paths of the two files
    old_version, new_version: as the files have them
    bump:         the step between the versions: none, patch, minor, major, backwards or unknown
    needed:       the step that the differences ask for
    fit:          of the step: right, too small, too large, backwards or unknown
    n_weakened:   differences that promise less
    differences:  the weakened ones first
    exit_code:    1 if something is promised less, or the step is too small, backwards or unknown; else 0
    """

    id: str
    old: str
    new: str
    old_version: str
    new_version: str
    bump: Bump
    needed: Size
    fit: Fit
    n_weakened: int
    differences: tuple[Difference, ...]
    exit_code: int
    schema: str = field(default="apr.contract-diff/1")


def diff(old: Contract, new: Contract) -> ContractDiff:
    """Hold a later version of a contract against an earlier one. Raises UsageError for two contracts."""
    if old.id != new.id:
        raise UsageError(
            f"{old.path} is the contract {old.id!r} and {new.path} is {new.id!r}; give two versions of one"
        )
    order: tuple[Kind, ...] = ("weakened", "changed", "strengthened", "added", "reworded")
    found = sorted(_differences(old, new), key=lambda one: order.index(one.kind))
    needed: Size = max((one.size for one in found), key=SIZES.index, default="none")
    bump = _bump(old.version, new.version)
    fit = _fit(bump, needed)
    n_weakened = sum(one.kind == "weakened" for one in found)
    return ContractDiff(
        id=new.id,
        old=str(old.path),
        new=str(new.path),
        old_version=old.version,
        new_version=new.version,
        bump=bump,
        needed=needed,
        fit=fit,
        n_weakened=n_weakened,
        differences=tuple(found),
        exit_code=0 if fit in ("right", "too large") and not n_weakened else 1,
    )


def _bump(old: str, new: str) -> Bump:
    before, after = numbers(old), numbers(new)
    if before is None or after is None:
        return "unknown"
    if after < before:
        return "backwards"
    steps: tuple[Bump, ...] = ("major", "minor", "patch")
    return next((step for step, a, b in zip(steps, before, after, strict=True) if a != b), "none")


def _fit(bump: Bump, needed: Size) -> Fit:
    if bump == "backwards" or bump == "unknown":
        return bump
    given, asked = SIZES.index(bump), SIZES.index(needed)
    return "right" if given == asked else "too small" if given < asked else "too large"


def _differences(old: Contract, new: Contract) -> Iterator[Difference]:
    yield from _tests(old, new)
    yield from _obligations(old, new)
    yield from _equations(old, new)
    for key in dict.fromkeys((*old.raw, *new.raw)):
        if key not in _READ_ELSEWHERE:
            yield from _value(key, key, old.raw.get(key), new.raw.get(key), 1, is_promise=key in _PROMISES)
    yield from _history(old, new)
    for name in ("description", "kind", "references", "depends_on", "status"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield Difference("reworded", name, _said(before), _said(after), 1, "patch", f"{name} changed")


def _tests(old: Contract, new: Contract) -> Iterator[Difference]:
    before, after = ({t.id: t for t in c.falsifications} for c in (old, new))
    for name, test in before.items():
        if name not in after:
            sentence = f"the falsification test {name} is gone: {test.prediction or test.rule or test.test}"
            yield Difference("weakened", name, test.prediction, None, test.line, "major", sentence)
        else:
            yield from _test(test, after[name])
    for name, test in after.items():
        if name not in before:
            sentence = f"the falsification test {name} is new"
            yield Difference("added", name, None, test.prediction, test.line, "minor", sentence)


def _test(old: Falsification, new: Falsification) -> Iterator[Difference]:
    if old.is_blocking != new.is_blocking:
        kind: Kind = "weakened" if old.is_blocking else "strengthened"
        now = "no longer blocks a release" if old.is_blocking else "blocks a release now"
        flags = (str(old.is_blocking).lower(), str(new.is_blocking).lower())
        yield Difference(kind, f"{new.id}.ship_blocking", *flags, new.line, "major", f"{new.id} {now}")
    yield from _check(old, new)
    for name in ("rule", "prediction", "if_fails"):
        yield from _text(f"{new.id}.{name}", name, getattr(old, name), getattr(new, name), new.line)
    for name in dict.fromkeys((*old.fields, *new.fields)):
        if name != "ship_blocking":
            what = f"{new.id}.{name}"
            yield from _value(what, name, old.fields.get(name), new.fields.get(name), new.line, is_promise=True)


def _check(old: Falsification, new: Falsification) -> Iterator[Difference]:
    what = f"{new.id}.check"
    if old.check is not None and new.check is not None:
        for turned, which, before, after, sentence in _diff_check.differences(old.check, new.check):
            at = f"{what}.{which}"
            yield Difference(turned, at, before, after, new.check.line, "major", f"{new.id}: {sentence}")
    elif old.check is not None:
        sentence = f"{new.id} had a check that runs, and has none"
        yield Difference("weakened", what, _said(old.check.argv), None, new.line, "major", sentence)
    elif new.check is not None:
        sentence = f"{new.id} has a check that runs now"
        yield Difference("strengthened", what, None, _said(new.check.argv), new.check.line, "minor", sentence)
    if old.test != new.test:
        ran, runs = (_binding.binding(test) != "prose" for test in (old, new))
        at = f"{new.id}.test"
        if ran and not runs:
            sentence = f"{new.id} was bound to {old.test!r}, and binds to nothing that runs now"
            yield Difference("weakened", at, old.test, new.test, new.line, "major", sentence)
        elif new.check is None:
            kind: Kind = "strengthened" if runs and not ran else "changed"
            yield Difference(kind, at, old.test, new.test, new.line, "minor", f"{new.id} is bound to another test")
        else:
            yield Difference(
                "reworded", at, old.test, new.test, new.line, "patch", f"{new.id}: the test's text changed"
            )


def _obligations(old: Contract, new: Contract) -> Iterator[Difference]:
    before, after = ({one.id or f"{one.type}: {one.property}": one for one in c.obligations} for c in (old, new))
    for name, one in before.items():
        if name not in after:
            sentence = f"the obligation {name!r} is gone"
            yield Difference("weakened", name, one.property, None, one.line, "major", sentence)
        else:
            yield from _fields(name, one.fields, after[name].fields, after[name].line)
    for name, one in after.items():
        if name not in before:
            yield _new_obligation(name, one)


def _new_obligation(name: str, one: Obligation) -> Difference:
    if one.fields.get("required") is False:
        return Difference(
            "added", name, None, one.property, one.line, "minor", f"the obligation {name!r} is new, and not required"
        )
    sentence = f"the obligation {name!r} is new and required"
    return Difference("strengthened", name, None, one.property, one.line, "major", sentence)


def _equations(old: Contract, new: Contract) -> Iterator[Difference]:
    before, after = ({one.name: one for one in c.equations} for c in (old, new))
    for name, one in before.items():
        if name not in after:
            sentence = f"the equation {name!r} is gone"
            yield Difference("weakened", name, one.formula, None, one.line, "major", sentence)
        else:
            yield from _fields(name, one.fields, after[name].fields, after[name].line)
            if one.formula != after[name].formula and turn_of_text(one.formula, after[name].formula) is None:
                sentence = f"the equation {name!r} claims something else"
                formula = after[name].formula
                yield Difference(
                    "changed", f"{name}.formula", one.formula, formula, after[name].line, "major", sentence
                )
    for name, one in after.items():
        if name not in before:
            yield Difference("added", name, None, one.formula, one.line, "minor", f"the equation {name!r} is new")


def _fields(name: str, old: Mapping[str, Any], new: Mapping[str, Any], line: int) -> Iterator[Difference]:
    for key in dict.fromkeys((*old, *new)):
        yield from _value(f"{name}.{key}", key, old.get(key), new.get(key), line, is_promise=True)


def _history(old: Contract, new: Contract) -> Iterator[Difference]:
    """Entries of the changelog are only ever added."""
    kept = {(change.version, change.text) for change in new.changelog}
    for change in old.changelog:
        if (change.version, change.text) not in kept:
            sentence = (
                f"the changelog's entry of {change.version or 'no version'} is gone or altered; entries are only added"
            )
            yield Difference("weakened", "changelog", change.text, None, change.line, "patch", sentence)


def _value(what: str, key: str, old: Any, new: Any, line: int, *, is_promise: bool) -> Iterator[Difference]:
    """A field of any shape, down to its figures and texts."""
    if old == new and isinstance(old, bool) == isinstance(new, bool):
        return
    if key in _BOOKKEEPING or not is_promise:
        yield Difference("reworded", what, _said(old), _said(new), line, "patch", f"{what} changed")
    elif _is_number(old) and _is_number(new):
        yield _turned(turn(sense_of(key), old, new), what, _said(old), _said(new), line)
    elif isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from _value(f"{what}.{name}", name, old.get(name), new.get(name), line, is_promise=True)
    elif isinstance(old, list) or isinstance(new, list):
        yield from _items(what, old if isinstance(old, list) else [], new if isinstance(new, list) else [], line)
    elif old is None:
        yield Difference("added", what, None, _said(new), line, "minor", f"{what} is new")
    elif new is None:
        yield Difference("weakened", what, _said(old), None, line, "major", f"{what} is gone: it was {_said(old)}")
    else:
        yield from _text(what, key, _said(old), _said(new), line)


def _items(what: str, old: Sequence[Any], new: Sequence[Any], line: int) -> Iterator[Difference]:
    """A list: items with an id by their id, others by what they say."""
    before, after = ({_name(item): item for item in items} for items in (old, new))
    gone = [name for name in before if name not in after]
    come = [name for name in after if name not in before]
    for name in before:
        if name in after:
            yield from _value(f"{what}[{name[:40]}]", "", before[name], after[name], line, is_promise=True)
    for name in gone:
        partner = next(
            (other for other in come if turn_of_text(name, other) and _skeleton(name) == _skeleton(other)), None
        )
        if partner is not None:  # the same sentence with another figure
            come.remove(partner)
            yield from _text(what, "", name, partner, line)
        else:
            yield Difference("weakened", what, name, None, line, "major", f"{what}: {name!r} is gone")
    for name in come:
        yield Difference("added", what, None, name, line, "minor", f"{what}: {name!r} is new")


def _text(what: str, key: str, old: str, new: str, line: int) -> Iterator[Difference]:
    if old == new:
        return
    turned = turn_of_text(old, new)
    if turned is not None:
        yield _turned(turned[0], what, old, new, line)
    elif key != "formula":  # an equation's words are what it claims: see _equations
        same = "with the same figures" if figures(old) else "and only a person can tell whether it promises the same"
        yield Difference("reworded", what, old, new, line, "patch", f"{what} is worded otherwise, {same}: {new}")


def _turned(turned: Turn, what: str, old: str, new: str, line: int) -> Difference:
    said = {
        "weakened": "is looser",
        "strengthened": "is tighter",
        "changed": "changed, and its name does not say which way",
    }
    return Difference(turned, what, old, new, line, "major", f"{what} {said[turned]}: {old} became {new}")


def _name(item: Any) -> str:
    return str(item["id"]) if isinstance(item, dict) and "id" in item else _said(item)


def _skeleton(text: str) -> str:
    return "".join(c for c in text if not (c.isdigit() or c in ".,%"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "; ".join(map(_said, value))
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_said(item)}" for key, item in value.items())
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
