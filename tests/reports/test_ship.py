"""`apr ship` as text: a criterion a row, the figure rounded down, the changes, the command that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

import ship_plans
from apr.ledger.ship import Change
from apr.reports import _ship


@pytest.fixture
def release(tmp_path: Path) -> Path:
    ship_plans.make(tmp_path)
    return tmp_path


def test_a_row_has_status_promise_and_evidence(release: Path) -> None:
    run = ship_plans.ran(release, {**ship_plans.ALL, "F-4": "fail"}).name.removesuffix(".intoto.json")
    text = _ship.ship(ship_plans.report(release))
    assert f"✓ discharged  AC-1  it loads ({run})" in text
    assert "✗ failed      AC-3  it is the original's: F-4 is fail (blocks nothing)" in text
    assert text.endswith("ship: 75 %, 2 of 3 criteria discharged, 1 failed")


def test_what_changed_stands_below(release: Path) -> None:
    ship_plans.ran(release, {"F-1": "pass", "F-2": "pass"})
    ship_plans.report(release)
    ship_plans.ran(release, {"F-3": "pass"})
    assert "  M/AC-2: not run → discharged" in _ship.ship(ship_plans.report(release))


def test_the_next_command_goes_on_where_something_is_missing(release: Path) -> None:
    store = release / "evidence"
    command = _ship.next_command(ship_plans.report(release))
    assert command.startswith("apr contract verify ") and f"--reference {release}/original --store {store}" in command
    path = ship_plans.ran(release)
    assert _ship.next_command(ship_plans.report(release)) == ""
    path.unlink()
    report = ship_plans.report(release)
    assert _ship.next_command(report) == f"apr evidence verify --store {store}"
    assert "evidence: statements/" in _ship.ship(report)


def test_a_model_that_is_gone_is_to_be_had_first(release: Path) -> None:
    (release / "model.gguf").unlink()
    assert _ship.next_command(ship_plans.report(release)) == "apr pull model.gguf"


@pytest.mark.parametrize(("figure", "shown"), [(1.0, "100 %"), (0.9999, "99 %"), (0.29, "29 %"), (0.0, "0 %")])
def test_a_figure_is_rounded_down(figure: float, shown: str) -> None:
    assert _ship.percent(figure) == shown


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Change("M/A", "status", "failed", "not_run"), "M/A: failed → not run"),
        (Change("M/A", "weight", "1", "2"), "M/A: weight 1 → 2"),
        (Change("M/A", "status", None, "failed"), "M/A: new, status failed"),
        (Change("M/A", "status", "failed", None), "M/A: not in the plan any more, it was status failed"),
        (Change("M", "tensors", "ab" * 32, "cd" * 32), "M: tensors abababababababab → cdcdcdcdcdcdcdcd"),
    ],
)
def test_a_change_in_words(change: Change, said: str) -> None:
    assert _ship.changed(change) == said
