"""Predictions put to the test: what is refused, what is observed, what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scripted
import tiny
from apr.errors import EngineError
from apr.ledger import _experiment, _pattern
from apr.ledger._experiment import PredictReport
from apr.ledger.prediction import Settings
from ledger import predictions

CHAT, RAW = scripted.chat(predictions.QUESTION), scripted.raw(predictions.QUESTION)
Answers = dict[scripted.Asked, str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted.write(tmp_path_factory.mktemp("model"))


def tried(folder: Path, model: Path, answers: Answers, **parts: Any) -> PredictReport:
    """One prediction about a model that gives these answers."""
    parts = {name: {"model": str(model), **parts.get(name, {})} for name in ("control", "experiment")} | {
        name: part for name, part in parts.items() if name not in ("control", "experiment")
    }
    file = predictions.file_of(folder, **parts)
    return _experiment.run(file, load=predictions.loader(scripted.Script(model, answers)))


def hypotheses(report: PredictReport) -> dict[str, str]:
    return {one.id: one.status for one in report.predictions[0].hypotheses}


@pytest.mark.parametrize(
    ("chat", "raw", "verdict", "meaning", "left", "exit_code"),
    [
        ("six", " 4", "pass", "the template is at fault", {"template": "consistent", "model": "refuted"}, 0),
        ("six", " six", "fail", "the model cannot add", {"template": "refuted", "model": "consistent"}, 1),
        (" 4", " six", "fail", "nothing is wrong with the template", {"template": "refuted", "model": "refuted"}, 1),
    ],
)
def test_each_outcome_comes_to_its_verdict(
    tmp_path: Path, model: Path, chat: str, raw: str, verdict: str, meaning: str, left: dict[str, str], exit_code: int
) -> None:
    report = tried(tmp_path, model, {CHAT: chat, RAW: raw})
    (result,) = report.predictions
    assert (result.verdict, result.meaning, report.exit_code) == (verdict, meaning, exit_code)
    assert hypotheses(report) == left
    assert [run.record.text for run in result.runs] == [chat, raw]
    assert report.is_unchanged and report.file_sha256 == predictions.prediction.sha256_of(Path(report.file))


def test_two_runs_that_differ_in_more_are_refused_before_they_are_made(tmp_path: Path, model: Path) -> None:
    report = tried(tmp_path, model, {CHAT: "six", RAW: " 4"}, experiment={"max_tokens": 4, "prompt": "What is 1+3?"})
    (result,) = report.predictions
    assert (result.verdict, report.exit_code, result.runs) == ("not_comparable", 5, ())
    assert result.sentence.startswith("not comparable: the runs differ in more than regime: prompt, max_tokens;")
    assert set(hypotheses(report).values()) == {"open"}, "a refused prediction refutes nothing"


def test_what_only_the_records_show_is_refused_after_the_runs(tmp_path: Path, model: Path) -> None:
    """Section 61's: one of two runs of the same command goes to another engine, and no setting says so."""
    script, runs = scripted.Script(model, {CHAT: " 4", RAW: " 4"}), {"model": str(model), "regime": "raw"}
    file = predictions.file_of(tmp_path, control=runs, experiment={**runs, "threads": 2}, varies="threads")
    assert _experiment.check(file).exit_code == 0

    def load(path: Path, settings: Settings) -> Any:
        loaded = predictions.loader(script)(path, settings)
        if settings.threads == 2:
            loaded.session.engine = "legacy"
        return loaded

    report = _experiment.run(file, load=load)
    (result,) = report.predictions
    assert (result.verdict, report.exit_code, len(result.runs)) == ("not_comparable", 5, 2)
    (confound,) = [d for d in result.differences if d.kind == "confound"]
    assert (confound.field, confound.control, confound.experiment) == ("engine", "scripted", "legacy")
    assert result.meaning is None and "consistent" not in hypotheses(report).values()


def test_an_outcome_that_nobody_gave_a_meaning_decides_nothing(tmp_path: Path, model: Path) -> None:
    green = [{"experiment": "pass", "means": "the template is at fault"}]
    report = tried(tmp_path, model, {CHAT: "six", RAW: " six"}, outcomes=green)
    (result,) = report.predictions
    assert (result.verdict, report.exit_code, result.meaning) == ("undecided", 5, None)
    assert "no row of outcomes" in result.sentence and {"control": "fail", "experiment": "fail"} in result.uncovered


def test_a_pattern_that_gives_no_answer_decides_nothing(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pattern, "LIMIT_S", 1e-9)
    report = tried(tmp_path, model, {CHAT: " 4", RAW: " 4"}, expected=[{"matches": "(4|44)+$"}])
    (result,) = report.predictions
    assert result.verdict == "error" and "'(4|44)+$' gave no answer" in result.sentence


def test_hypotheses_that_are_left_alike_get_the_run_that_would_tell(tmp_path: Path, model: Path) -> None:
    blame = [
        {"id": "template", "says": "x", "blames": "regime"},
        {"id": "ids", "says": "y", "predicts": {"control": "fail", "experiment": "pass", "numpy": "pass"}},
    ]
    further = [{"id": "numpy", "change": {"engine": "numpy"}}]
    report = tried(tmp_path, model, {CHAT: "six", RAW: " 4"}, hypotheses=blame, candidates=further)
    found = report.predictions[0].separation
    assert found.left == (("template", "ids"),) and found.extra_run is not None and found.extra_run.id == "numpy"
    settled = tried(tmp_path, model, {CHAT: " 4", RAW: " 4"}, hypotheses=blame, candidates=further)
    assert settled.predictions[0].separation.extra_run is None, "both are refuted"


def test_the_hash_is_kept_before_the_first_run_and_each_prediction_as_it_is_done(tmp_path: Path, model: Path) -> None:
    load = predictions.loader(scripted.Script(model, {CHAT: "six", RAW: " 4"}))
    runs = {name: {"model": str(model)} for name in ("control", "experiment")}
    path = predictions.write(tmp_path, predictions.changed(**runs), predictions.changed(id="P-2", **runs))
    kept: list[list[str]] = []
    begun: list[str] = []

    def counted(path: Path, settings: Settings) -> Any:
        begun.append("run")
        return load(path, settings)

    def save(report: PredictReport) -> None:
        assert len(report.file_sha256) == 64
        assert kept or not begun, "nothing runs before the file's hash is kept"
        kept.append([one.verdict for one in report.predictions])

    _experiment.run(predictions.prediction.read(path), save=save, load=counted)
    assert kept == [["not_run", "not_run"], ["pass", "not_run"], ["pass", "pass"]]


def test_a_file_that_is_changed_while_it_runs_decides_nothing(tmp_path: Path, model: Path) -> None:
    runs = {name: {"model": str(model)} for name in ("control", "experiment")}
    file = predictions.file_of(tmp_path, **runs)
    load = predictions.loader(scripted.Script(model, {CHAT: "six", RAW: " 4"}))

    def rewriting(path: Path, settings: Settings) -> Any:
        file.path.write_text(file.path.read_text().replace("'4'", "'six'"))
        return load(path, settings)

    report = _experiment.run(file, load=rewriting)
    assert report.predictions[0].verdict == "error" and not report.is_unchanged and report.exit_code == 4


def test_an_engine_that_fails_leaves_the_other_predictions(tmp_path: Path, model: Path) -> None:
    load = predictions.loader(scripted.Script(model, {CHAT: "six", RAW: " 4"}))
    runs = {name: {"model": str(model)} for name in ("control", "experiment")}
    broken = {name: {"model": str(model), "engine": "numpy"} for name in ("control", "experiment")}
    path = predictions.write(tmp_path, predictions.changed(**broken), predictions.changed(id="P-2", **runs))

    def failing(path: Path, settings: Settings) -> Any:
        if settings.engine == "numpy":
            raise EngineError("the engine did not start")
        return load(path, settings)

    report = _experiment.run(predictions.prediction.read(path), load=failing)
    assert [one.verdict for one in report.predictions] == ["error", "pass"] and report.exit_code == 4
    assert "the control run failed: the engine did not start" in report.predictions[0].sentence


def test_a_model_that_is_not_here_leaves_what_the_file_says(tmp_path: Path) -> None:
    found = _experiment.check(predictions.file_of(tmp_path))
    assert found.predictions[0].verdict == "comparable" and "model.gguf" in str(found.predictions[0].unforeseen)
    refused = _experiment.check(predictions.file_of(tmp_path, experiment={"engine": "numpy"}))
    assert refused.predictions[0].verdict == "not_comparable" and refused.exit_code == 5


def test_a_copy_that_computes_with_other_activations_is_a_confound_until_they_are_set_alike(tmp_path: Path) -> None:
    """The real engine: 8-bit activations are for block codecs, which the decoded copy does not have."""
    config = tiny.config("llama", **tiny.BLOCKS_OF_256)
    weights = {name: w * np.float32(2) for name, w in tiny.tensors(config).items()}
    path = tiny.write(tmp_path, "gguf", config, weights, codec="q8_0")
    runs: dict[str, Any] = {"model": str(path), "regime": "raw", "at_eos": "ignore"}
    expected = [{"same_token_ids_as": "control"}, {"equals": "length", "field": "finish_reason"}]
    asked: dict[str, Any] = {"varies": "container", "expected": expected}
    other = predictions.file_of(tmp_path, control=runs, experiment={**runs, "container": "apr"}, **asked)
    (result,) = _experiment.run(other).predictions
    assert result.verdict == "not_comparable" and "activations; say activations: float32 of both" in result.sentence
    exact = runs | {"activations": "float32"}
    alike = predictions.file_of(tmp_path, control=exact, experiment={**exact, "container": "apr"}, **asked)
    (result,) = _experiment.run(alike).predictions
    assert result.verdict == "pass", result.sentence
    assert result.comparison is not None and result.comparison.verdict == "same"
