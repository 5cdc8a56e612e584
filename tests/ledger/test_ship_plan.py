"""A plan is read with its lines; what in it means nothing, or could hold nothing, is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import ship_plans
from apr.errors import ContractError
from apr.ledger import _ship_plan
from ship_plans import PLAN


def test_a_plan_is_read_with_its_defaults(tmp_path: Path) -> None:
    plan = _ship_plan.read(ship_plans.make(tmp_path))
    (model,) = plan.models
    assert model.model == str(tmp_path / "model.gguf") and model.reference == str(tmp_path / "original")
    first, second, third = model.criteria
    assert [test.id for test in first.tests] == ["F-1", "F-2"] and first.statement == "it loads"
    assert (first.blocking, first.weight, first.needs) == (True, 1, ())
    assert (second.weight, second.needs, second.statement) == (2, ("AC-1",), "it solves problems")
    assert not third.blocking and [one.id for one in model.contracts] == ["small"]


def test_a_name_that_is_no_path_stays_one(tmp_path: Path) -> None:
    (model,) = _ship_plan.read(ship_plans.make(tmp_path, plan=PLAN.replace("model.gguf", "smollm2"))).models
    assert model.model == "smollm2"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("models:", "modells:", 2, "modells, which means nothing"),
        (PLAN, "\n[]", 2, "a plan is"),
        (PLAN, "\nmodels: []", 2, "models is"),
        ("- id: M", "- name: M", 3, "name, which means nothing"),
        ("    model: model.gguf\n", "", 3, "model is None"),
        ("small.yaml", "gone.yaml", 8, "its contract cannot be read"),
        ("{id: AC-1}", "{id: AC-9}", 8, "names no test"),
        ("check: F-3", "check: F-9", 9, "has no test F-9"),
        ("check: F-3", "check: [F-3, F-3]", 9, "stands twice"),
        ("check: F-3", "check: {a: b}", 9, "it is an id, or a list of ids"),
        ("id: AC-2", "id: AC-1", 3, "the criterion AC-1 stands twice"),
        ("weight: 2", "weight: 0", 9, "a number over 0"),
        ("weight: 2", "weight: .inf", 9, "a number over 0"),
        ("weight: 2", "weight: true", 9, "a number over 0"),
        ("weight: 2", "weight: 2, weight: 3", 9, "stands twice"),
        ("blocking: false", "blocking: maybe", 10, "it is true or false"),
        ("needs: [AC-1]", "needs: [AC-9]", 7, "needs AC-9, which is no criterion"),
        ("{id: AC-1}", "{id: AC-1, needs: [AC-2]}", 7, "needs itself"),
        ("check: F-3", "check: F-3, threshold: {at_least: 1}", 9, "path"),
        ("check: F-3", "check: F-3, threshold: 0.5", 9, "threshold"),
        ("check: F-3", "check: F-3, threshold: {test: F-1, path: a, at_least: 1}", 9, "one of F-3"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(old: str, new: str, line: int, said: str, tmp_path: Path) -> None:
    assert old in PLAN
    path = ship_plans.make(tmp_path, plan=PLAN.replace(old, new, 1))
    with pytest.raises(ContractError, match=r"ship\.yaml") as caught:
        _ship_plan.read(path)
    assert said in str(caught.value) and caught.value.line == line


def test_a_plan_that_nothing_could_hold_is_refused(tmp_path: Path) -> None:
    text = PLAN.replace("{id: AC-1}", "{id: AC-1, blocking: false}").replace("weight: 2", "blocking: false")
    with pytest.raises(ContractError, match="no criterion blocks"):
        _ship_plan.read(ship_plans.make(tmp_path, plan=text))


def test_a_check_that_cannot_be_understood_is_the_contract_s_error(tmp_path: Path) -> None:
    path = ship_plans.make(tmp_path)
    contract = tmp_path / "small.yaml"
    contract.write_text(contract.read_text().replace("link: weights", "gate: x, link: weights"), encoding="utf-8")
    with pytest.raises(ContractError, match=r"small\.yaml:9: check: has"):
        _ship_plan.read(path)
