"""Whatever stands where: a contract whose values are of the wrong kind is read, linted and compared without a crash."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from apr._plain import plain
from apr.cli import _checks
from apr.errors import AprError
from apr.ledger import _diff, _lint, _yaml
from apr.ledger.contract import read_with_problems
from apr.reports import _contract, json

FIXTURES = Path(__file__).parents[1] / "fixtures" / "contracts"
FILES = sorted([*FIXTURES.glob("*.yaml"), *FIXTURES.glob("upstream/*.y*ml")])
ODD: list[Any] = [
    None,
    3,
    -1.5,
    "x",
    "",
    [],
    {},
    [1],
    {"a": 1},
    True,
    [[]],
    [{}],
    [None],
    {"id": [1]},
    "1.0.0",
    float("inf"),
]
ROUNDS = 12


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield where
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in rows:
        yield from places(item, (*where, key))


def planted(value: Any, where: tuple[Any, ...], odd: Any) -> Any:
    if not where:
        return odd
    changed = copy.deepcopy(value)
    inside = changed
    for key in where[:-1]:
        inside = inside[key]
    inside[where[-1]] = odd
    return changed


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_odd_values_anywhere_are_findings_and_no_crash(file: Path, tmp_path: Path) -> None:
    rng = random.Random(file.stem)
    value = _yaml.parse(file.read_bytes(), file).value
    healthy = read_with_problems(file).contract
    path = tmp_path / "odd.yaml"
    for _ in range(ROUNDS):
        where = rng.choice(list(places(value)))
        path.write_text(
            yaml.safe_dump(plain(planted(value, where, rng.choice(ODD))), allow_unicode=True), encoding="utf-8"
        )
        report = _lint.lint([path], resolve=_checks.problem)
        assert _contract.linted(report) and json.dumps(report)
        try:
            odd = read_with_problems(path).contract
            for found in (_diff.diff(healthy, odd), _diff.diff(odd, healthy)):
                assert _contract.difference(found) and json.dumps(found)
        except AprError:  # no contract any more, or another one
            continue
