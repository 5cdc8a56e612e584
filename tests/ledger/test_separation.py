"""Which hypotheses can be told apart, and by what further run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from apr.ledger import _separation
from ledger import predictions


def blaming(*fields: str) -> list[dict[str, Any]]:
    return [{"id": field, "says": f"{field} is at fault", "blames": field} for field in fields]


def test_hypotheses_that_predict_different_results_are_told_apart(tmp_path: Path) -> None:
    found = _separation.separate(predictions.one(tmp_path))
    assert [(one.first, one.second, one.by) for one in found.separated] == [("template", "model", ("experiment",))]
    assert found.inseparable == () and found.extra_run is None


def test_a_field_that_is_blamed_makes_runs_with_the_controls_value_fail(tmp_path: Path) -> None:
    one = predictions.one(tmp_path, hypotheses=blaming("regime", "engine"))
    by_id = {hypothesis.id: hypothesis for hypothesis in one.hypotheses}
    results = [
        [_separation.predicted(one, by_id[name], run, one.settings(run)) for run in ("control", "experiment")]
        for name in ("regime", "engine")
    ]
    assert results == [["fail", "pass"], ["fail", "fail"]]


def test_confounded_runs_tell_nothing_apart_and_one_field_alone_tells_most(tmp_path: Path) -> None:
    names = ("regime", "engine", "max_tokens")
    one = predictions.one(
        tmp_path, experiment={"engine": "numpy", "max_tokens": 4}, hypotheses=blaming(*names), varies="regime"
    )
    found = _separation.separate(one)
    assert found.separated == () and len(found.inseparable) == 3
    extra = found.extra_run
    assert extra is not None and (extra.based_on, extra.id) == ("control", f"control-with-{extra.field}")
    assert len(extra.separates) == 2 and len(extra.leaves) == 1
    assert all(extra.field in pair for pair in extra.separates)


def test_a_candidate_that_the_hypotheses_speak_of_is_the_extra_run(tmp_path: Path) -> None:
    same = {"control": "fail", "experiment": "fail"}
    one = predictions.one(
        tmp_path,
        hypotheses=[
            {"id": "a", "says": "x", "predicts": {**same, "exact": "pass"}},
            {"id": "b", "says": "y", "predicts": {**same, "exact": "fail"}},
            {"id": "c", "says": "z", "predicts": same},
        ],
        candidates=[{"id": "exact", "change": {"activations": "float32"}}],
    )
    extra = _separation.separate(one).extra_run
    assert extra is not None and (extra.id, extra.field, extra.value) == ("exact", "activations", "float32")
    assert extra.separates == (("a", "b"),) and extra.leaves == (("a", "c"), ("b", "c"))


def test_what_is_refuted_needs_no_further_run(tmp_path: Path) -> None:
    one = predictions.one(tmp_path, experiment={"engine": "numpy"}, hypotheses=blaming("regime", "engine"))
    assert _separation.separate(one).extra_run is not None
    settled = _separation.separate(one, refuted={"engine"})
    assert settled.inseparable == (("regime", "engine"),) and settled.left == () and settled.extra_run is None


def test_a_hypothesis_that_says_nothing_of_a_run_is_not_told_apart_by_it(tmp_path: Path) -> None:
    silent = [{"id": "a", "says": "x", "predicts": {"control": "fail"}}, predictions.ONE["hypotheses"][1]]
    found = _separation.separate(predictions.one(tmp_path, hypotheses=silent))
    assert found.inseparable == (("a", "model"),) and found.extra_run is None


def test_of_several_candidates_the_one_that_tells_most_is_chosen(tmp_path: Path) -> None:
    same = {"control": "fail", "experiment": "fail"}
    one = predictions.one(
        tmp_path,
        hypotheses=[
            {"id": "a", "says": "x", "predicts": {**same, "little": "pass", "much": "pass"}},
            {"id": "b", "says": "y", "predicts": {**same, "little": "fail", "much": "fail"}},
            {"id": "c", "says": "z", "predicts": {**same, "much": "fail"}},
        ],
        candidates=[{"id": "little", "change": {"threads": 2}}, {"id": "much", "change": {"threads": 3}}],
    )
    extra = _separation.separate(one).extra_run
    assert extra is not None and extra.id == "much" and len(extra.separates) == 2
