"""`ship.yaml`: the models of a release and the criteria by which each may be handed out; read as hostile input.

    models:
      - id: MODEL-1
        model: qwen2.5-coder:0.5b
        reference: original/                      # what it was made from; may be left out
        contract: contracts/ship-two/model-1.yaml
        criteria:
          - id: AC-SHIP1-005
            check: FALSIFY-MODEL1-006             # or a list; without it, those that the contract has for this id
            threshold: {path: "scores[name=pass@1,regime=chat].value", at_least: 0.5}
            blocking: true                        # unless it says otherwise
            weight: 1                             # of the figure, unless it says otherwise
            needs: [AC-SHIP1-001]                 # criteria without which this one shows nothing

Paths are those of the file's folder. A threshold is held against the evidence besides the contract's own bar, and so can
only ask for more.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from apr.errors import ContractError
from apr.ledger import _check, _lint, _yaml, contract
from apr.ledger._expect import Expect
from apr.ledger.contract import Contract, Falsification

_TOP = {"description", "models"}
_MODEL = {"id", "description", "model", "reference", "contract", "criteria"}
_CRITERION = {"id", "statement", "contract", "check", "threshold", "blocking", "weight", "needs"}


@dataclass(frozen=True, slots=True)
class Threshold:
    """A bar over the contract's. test: whose document it is held against."""

    test: str
    expect: Expect


@dataclass(frozen=True, slots=True)
class PlannedCriterion:
    """A criterion as the plan has it.

    statement:  in words, the contract's own where the plan has none
    needs:      ids of criteria of the same model
    """

    id: str
    statement: str
    contract: Contract
    tests: tuple[Falsification, ...]
    threshold: Threshold | None
    blocking: bool
    weight: float
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model and what is asked of it. model, reference: a name, or a path that is there."""

    id: str
    model: str
    reference: str | None
    criteria: tuple[PlannedCriterion, ...]

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """Each once."""
        return tuple({one.contract.path: one.contract for one in self.criteria}.values())


@dataclass(frozen=True, slots=True)
class Plan:
    """A release. sha256: of the file's bytes."""

    path: Path
    sha256: str
    models: tuple[PlannedModel, ...]


def read(path: Path) -> Plan:
    """Read a plan and the contracts that it names. Raises ContractError with the line; ids, tests and needs must resolve."""
    data = contract.read_bytes(path)
    tree = _yaml.parse(data, path)
    return _Reader(path, tree).plan(hashlib.sha256(data).hexdigest())


class _Reader:
    def __init__(self, path: Path, tree: _yaml.Tree) -> None:
        self._path, self._tree = path, tree
        self._contracts: dict[Path, contract.Reading] = {}

    def plan(self, sha256: str) -> Plan:
        """The whole plan."""
        for where, line in self._tree.duplicates:
            self._refuse(f"the key {where[-1]!r} stands twice here; keep one", line=line)
        top = self._fields(self._tree.value, (), _TOP, "a plan")
        rows = self._rows(top.get("models"), ("models",), "models")
        models = tuple(self._model(where, value) for where, value in rows)
        self._each_once([model.id for model in models], "model", ("models",))
        if not any(one.blocking for model in models for one in model.criteria):
            self._refuse("no criterion blocks, so nothing could hold the release; leave blocking: false out of one")
        return Plan(self._path, sha256, models)

    def _model(self, where: _yaml.Where, value: Any) -> PlannedModel:
        fields = self._fields(value, where, _MODEL, "a model")
        rows = self._rows(fields.get("criteria"), (*where, "criteria"), "criteria")
        criteria = tuple(self._criterion(at, row, fields.get("contract")) for at, row in rows)
        names = [one.id for one in criteria]
        self._each_once(names, "criterion", where)
        self._ordered(criteria, where)
        reference = fields.get("reference")
        return PlannedModel(
            id=self._text(fields, "id", where),
            model=self._model_path(self._text(fields, "model", where)),
            reference=self._model_path(self._text(fields, "reference", where)) if reference is not None else None,
            criteria=criteria,
        )

    def _criterion(self, where: _yaml.Where, value: Any, default: Any) -> PlannedCriterion:
        fields = {"contract": default} | self._fields(value, where, _CRITERION, "a criterion")
        name = self._text(fields, "id", where)
        reading = self._contract(self._text(fields, "contract", where), where)
        theirs = _criterion_of(reading, name)
        tests = self._tests(fields.get("check", theirs.get("falsified_by")), reading, where, name)
        stated = fields.get("statement") or theirs.get("statement") or "; ".join(t.prediction or t.rule for t in tests)
        blocking = fields.get("blocking", True)
        if not isinstance(blocking, bool):
            self._refuse(f"{name}: blocking is {blocking!r}; it is true or false", *where, "blocking")
        weight = fields.get("weight", 1)
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not math.isfinite(weight) or weight <= 0:
            self._refuse(f"{name}: weight is {weight!r}; it is a number over 0", *where, "weight")
        return PlannedCriterion(
            id=name,
            statement=str(stated),
            contract=reading.contract,
            tests=tests,
            threshold=self._threshold(fields.get("threshold"), tests, (*where, "threshold"), name),
            blocking=blocking,
            weight=float(weight),
            needs=self._texts(fields.get("needs"), (*where, "needs"), f"{name}: needs"),
        )

    def _tests(self, named: Any, reading: contract.Reading, where: _yaml.Where, name: str) -> tuple[Falsification, ...]:
        ids = self._texts(named, (*where, "check"), f"{name}: check")
        known = {test.id: test for test in reading.contract.falsifications}
        if not ids:
            self._refuse(f"{name} names no test: nothing could show it to be false; add check: [ID, …]", *where)
        for one in ids:
            if one not in known:
                self._refuse(
                    f"{name}: {reading.contract.path} has no test {one}; it has {', '.join(known) or 'none'}",
                    *where,
                    "check",
                )
        self._each_once(list(ids), f"test of {name}", (*where, "check"))
        return tuple(known[one] for one in ids)

    def _threshold(self, value: Any, tests: Sequence[Falsification], where: _yaml.Where, name: str) -> Threshold | None:
        if value is None:
            return None
        ids = [test.id for test in tests]
        said = value.get("test", ids[0] if len(ids) == 1 else None) if isinstance(value, dict) else None
        if said not in ids:
            self._refuse(
                f"{name}: threshold: {value!r}; it has test (one of {', '.join(ids)}), path and a condition", *where
            )
        condition = {key: item for key, item in value.items() if key != "test"}
        return Threshold(str(said), _check.expectation(condition, where, self._tree, self._path))

    def _ordered(self, criteria: Sequence[PlannedCriterion], where: _yaml.Where) -> None:
        """Raise for a need that is not there, and for needs that go round."""
        by_id = {one.id: one for one in criteria}
        for one in criteria:
            for need in one.needs:
                if need not in by_id:
                    self._refuse(f"{one.id} needs {need}, which is no criterion of this model", *where, "criteria")
            path, seen = [*one.needs], set[str]()
            while path:
                need = path.pop()
                if need == one.id:
                    self._refuse(f"{one.id} needs itself in the end; needs go one way", *where, "criteria")
                if need not in seen:
                    seen.add(need)
                    path += by_id[need].needs if need in by_id else ()

    def _contract(self, named: str, where: _yaml.Where) -> contract.Reading:
        path = self._path.parent / named
        if path not in self._contracts:
            try:
                reading = contract.read_with_problems(path)
            except ContractError as exc:
                self._refuse(f"its contract cannot be read: {exc}", *where)
            if reading.problems:
                raise reading.problems[0]
            self._contracts[path] = reading
        return self._contracts[path]

    def _model_path(self, named: str) -> str:
        """A path from the plan's folder, never from the one that we are in; a name that is no path as it is."""
        path = self._path.parent / named
        return str(path) if path.exists() or Path(named).exists() else named

    def _fields(self, value: Any, where: _yaml.Where, known: set[str], what: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._refuse(f"{what} is {value!r}; it is a mapping with {', '.join(sorted(known))}", *where)
        unknown = sorted(set(value) - known)
        if unknown:
            message = f"{what} has {', '.join(unknown)}, which means nothing here; it has {', '.join(sorted(known))}"
            self._refuse(message, *where, unknown[0])
        return dict(value)

    def _rows(self, value: Any, where: _yaml.Where, what: str) -> Iterator[tuple[_yaml.Where, Any]]:
        if not isinstance(value, list) or not value:
            self._refuse(f"{what} is {value!r}; it is a list, and not empty", *where)
        yield from (((*where, i), row) for i, row in enumerate(value))

    def _text(self, fields: Mapping[str, Any], key: str, where: _yaml.Where) -> str:
        value = fields.get(key)
        if not isinstance(value, str) or not value.strip():
            self._refuse(f"{key} is {value!r}; it is a name", *where, key)
        return value.strip()

    def _texts(self, value: Any, where: _yaml.Where, what: str) -> tuple[str, ...]:
        found = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            self._refuse(f"{what} is {value!r}; it is an id, or a list of ids", *where)
        return tuple(found)

    def _each_once(self, names: Sequence[str], what: str, where: _yaml.Where) -> None:
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            self._refuse(f"the {what} {twice} stands twice; each counts once", *where)

    def _refuse(self, message: str, *where: str | int, line: int | None = None) -> NoReturn:
        raise ContractError(self._path, message, line=line or self._tree.line(*where))


def _criterion_of(reading: contract.Reading, name: str) -> Mapping[str, Any]:
    """What a contract says of an acceptance criterion; empty if it has none of that id."""
    found = (fields for fields, said, _ in _lint.criteria_of(reading) if said == name)
    return next((fields for fields in found if isinstance(fields, dict)), {})
