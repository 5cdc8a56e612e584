"""The figure follows from evidence alone: what is missing, failed, old, foreign or touched does not count, and says why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import ship_plans
import tiny
from apr.ledger import ship
from apr.ledger._statement import Status
from apr.ledger.evidence import Store


@pytest.fixture
def release(tmp_path: Path) -> Path:
    ship_plans.make(tmp_path)
    return tmp_path


def test_without_evidence_nothing_is_shown(release: Path) -> None:
    report = ship_plans.report(release)
    assert (report.figure, report.verdict, report.exit_code) == (0, "open", 5)
    assert report.counts["not_run"] == 3 and not (release / "evidence").exists()


def test_all_that_passed_is_all_of_the_figure(release: Path) -> None:
    path = ship_plans.ran(release)
    report = ship_plans.report(release)
    assert (report.figure, report.verdict, report.exit_code) == (1, "ship", 0)
    (model,) = report.models
    assert {test.evidence for one in model.criteria for test in one.tests} == {path}
    assert model.criteria[1].scores == (ship.Scored("humaneval", "pass@1", "chat", 0.55, 164, (0.47, 0.63)),)
    assert (model.uncounted, model.problem, model.criteria[0].statement) == ((), None, "it loads")


def test_the_figure_is_by_weight(release: Path) -> None:
    ship_plans.ran(release, {"F-3": "pass", "F-1": "pass", "F-2": "pass"})
    assert ship_plans.report(release).figure == 0.75
    ship_plans.ran(release, {"F-3": "fail"})
    assert ship_plans.report(release).figure == 0.25


@pytest.mark.parametrize(
    ("outcome", "status", "verdict"),
    [("fail", "failed", "hold"), ("undecided", "undecided", "open"), ("error", "not_run", "open"), ("not_runnable", "not_run", "open")],
)  # fmt: skip
def test_a_criterion_is_as_its_worst_test(outcome: Status, status: str, verdict: str, release: Path) -> None:
    ship_plans.ran(release, {**ship_plans.ALL, "F-2": outcome})
    report = ship_plans.report(release)
    criterion = report.models[0].criteria[0]
    assert (criterion.status, report.verdict) == (status, verdict) and "F-2" in criterion.sentence


def test_a_failure_says_what_the_contract_advises(release: Path) -> None:
    ship_plans.ran(release, {**ship_plans.ALL, "F-1": "fail"})
    assert ship_plans.report(release).models[0].criteria[0].advice == ("convert it anew",)


def test_what_blocks_nothing_holds_nothing_and_is_no_part_of_the_figure(release: Path) -> None:
    ship_plans.ran(release, {**ship_plans.ALL, "F-4": "fail"})
    report = ship_plans.report(release)
    assert (report.verdict, report.figure) == ("ship", 0.75)


@pytest.mark.parametrize(
    ("first", "status", "by"),
    [({"F-1": "fail", "F-2": "pass"}, "blocked", ("AC-1",)), ({"F-1": "undecided", "F-2": "pass"}, "blocked", ("AC-1",)), ({}, "blocked", ("AC-1",))],
    ids=["failed", "undecided", "not run"],
)  # fmt: skip
def test_what_stands_on_no_ground_is_blocked(
    first: dict[str, Status], status: str, by: tuple[str, ...], release: Path
) -> None:
    ship_plans.ran(release, {**first, "F-3": "pass"})
    second = ship_plans.report(release).models[0].criteria[1]
    assert (second.status, second.blocked_by) == (status, by) and "AC-1" in second.sentence


def test_what_was_not_run_waits_for_what_is_broken_alone(release: Path) -> None:
    assert ship_plans.statuses(release)["AC-2"] == "not_run"
    ship_plans.ran(release, {"F-1": "fail", "F-2": "pass"})
    assert ship_plans.statuses(release)["AC-2"] == "blocked"


def test_a_failure_of_its_own_is_not_excused_by_another(release: Path) -> None:
    ship_plans.ran(release, {"F-1": "fail", "F-2": "pass", "F-3": "fail"})
    assert ship_plans.statuses(release)["AC-2"] == "failed"


def test_a_pass_on_another_model_is_partial(release: Path) -> None:
    other = tiny.write(release / "other", "gguf", tiny.config("qwen2"))
    ship_plans.ran(release, model=other)
    assert ship_plans.statuses(release) == {"AC-1": "partial", "AC-2": "blocked", "AC-3": "partial"}


def test_a_contract_that_was_reworded_expires_all_of_it(release: Path) -> None:
    ship_plans.ran(release)
    path = release / "small.yaml"
    path.write_text(path.read_text().replace("it is sound", "it is quite sound"), encoding="utf-8")
    report = ship_plans.report(release)
    assert report.counts["expired"] == 3 and report.figure == 0


def test_another_model_in_its_place_expires_all_of_it(release: Path) -> None:
    ship_plans.ran(release)
    other = tiny.write(release / "other", "gguf", tiny.config("qwen2"))
    shutil.copy(other, release / "model.gguf")
    report = ship_plans.report(release)
    assert report.counts["expired"] == 3 and "the model changed" in report.models[0].criteria[0].sentence


def test_a_comparison_with_another_original_does_not_count(release: Path) -> None:
    other = tiny.write(release / "other", "safetensors", tiny.config("qwen2"))
    ship_plans.ran(release, reference=other)
    criteria = ship_plans.report(release).models[0].criteria
    assert [one.status for one in criteria] == ["discharged", "discharged", "expired"]
    assert "the plan names original" in criteria[2].sentence


@pytest.mark.parametrize("elsewhere", [False, True], ids=["nowhere", "another where we are"])
def test_an_original_that_is_gone_is_noted(
    elsewhere: bool, release: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    if elsewhere:  # a path of the plan begins at the plan's folder
        tiny.write(here / "original", "safetensors", tiny.config("qwen2"))
    ship_plans.ran(release)
    shutil.rmtree(release / "original")
    report = ship_plans.report(release)
    assert report.figure == 1 and "original is not here" in report.notes[0]


def test_a_model_that_is_gone_has_shown_nothing(release: Path) -> None:
    ship_plans.ran(release)
    (release / "model.gguf").unlink()
    report = ship_plans.report(release)
    assert (report.figure, report.exit_code) == (0, 5) and report.models[0].problem is not None


@pytest.mark.parametrize("how", ["deleted", "edited", "swapped", "rolled back"])
def test_touching_any_file_of_the_evidence_changes_the_figure_and_says_why(how: str, release: Path) -> None:
    store = release / "evidence"
    first = ship_plans.ran(release, {"F-1": "pass", "F-2": "pass"})
    earlier = shutil.copytree(store, release / "earlier")
    second = ship_plans.ran(release, {"F-1": "fail", "F-3": "pass", "F-4": "pass"})
    before = ship_plans.report(release)
    assert (before.figure, before.verdict) == (0.25, "hold")
    if how == "deleted":
        second.unlink()
    elif how == "edited":
        second.write_bytes(second.read_bytes().replace(b'"status": "fail"', b'"status": "pass"'))
    elif how == "swapped":
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
    else:  # the store as it was before the failure, whole and consistent: only what `ship` kept knows better
        kept = (store / "ship.jsonl").read_bytes()
        shutil.rmtree(store)
        earlier.rename(store)
        assert Store(store).verify() == []
        (store / "ship.jsonl").write_bytes(kept)
    after = ship_plans.report(release)
    assert (after.figure, after.verdict, after.exit_code) == (0, "hold", 1)
    assert after.problems and "not as it was left" in after.models[0].criteria[0].sentence


def test_what_changed_since_last_time(release: Path) -> None:
    ship_plans.ran(release, {"F-1": "pass", "F-2": "pass"})
    assert ship_plans.report(release).since is None
    ship_plans.ran(release, {"F-3": "pass"})
    report = ship_plans.report(release)
    assert [(one.of, one.before, one.after) for one in report.changes] == [("M/AC-2", "not_run", "discharged")]
    again = ship_plans.report(release)
    assert (again.changes, again.since) == (report.changes, report.since)
    assert [past.figure for past in again.history] == [0.25, 0.75]


@pytest.mark.parametrize(
    ("threshold", "status"),
    [("at_least: 0.5", "discharged"), ("at_least: 0.6", "failed"), ("at_least: 0.5, interval: 'scores[0].interval'", "undecided")],
)  # fmt: skip
def test_a_threshold_asks_for_more_than_the_contract(threshold: str, status: str, tmp_path: Path) -> None:
    bar = f"check: F-3, threshold: {{path: 'scores[0].value', {threshold}}}"
    ship_plans.make(tmp_path, plan=ship_plans.PLAN.replace("check: F-3", bar))
    ship_plans.ran(tmp_path)
    assert ship_plans.statuses(tmp_path)["AC-2"] == status
    ship_plans.ran(tmp_path, {"F-3": "fail"})
    assert ship_plans.statuses(tmp_path)["AC-2"] == "failed"  # and never for less


def test_a_threshold_is_held_against_the_run_that_counts(tmp_path: Path) -> None:
    bar = "check: [F-3, F-4], threshold: {test: F-3, path: 'scores[0].value', at_least: 0.5}"
    ship_plans.make(tmp_path, plan=ship_plans.PLAN.replace("check: F-3", bar))
    ship_plans.ran(
        tmp_path, {**ship_plans.ALL, "F-3": "fail"}, score=0.1
    )  # the newest run of F-4, and an old one of F-3
    ship_plans.ran(tmp_path, {"F-3": "pass"}, score=0.6)
    criterion = ship_plans.report(tmp_path).models[0].criteria[1]
    assert criterion.status == "discharged" and [one.value for one in criterion.scores] == [0.6]


def test_a_test_that_no_criterion_counts_is_named(tmp_path: Path) -> None:
    ship_plans.make(tmp_path, plan=ship_plans.PLAN.replace("{id: AC-1}", "{id: AC-1, check: F-1}"))
    assert ship_plans.report(tmp_path).models[0].uncounted == ("F-2",)
