"""`apr predict` whole: over a real file, with exit codes, JSON and the result that is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.cli import predict
from apr.ledger.prediction import sha256_of
from cli.conftest import SCHEMAS, Apr
from ledger import predictions
from schema_check import errors_in

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A file with one prediction about a tiny model, which passes: the fake engine writes the same twice."""
    model = tiny.write(tmp_path, "gguf")

    def made(**experiment: Any) -> Path:
        run = {"model": model.name, "prompt": "Hello", "regime": "raw", "max_tokens": 4, "threads": 1}
        parts = {
            "control": {**run, "engine": "fake"},
            "experiment": {**run, "engine": "fake", "at_eos": "ignore", **experiment},
            "varies": "at_eos",
            "expected": [{"matches": ""}],
            "hypotheses": [{"id": "end", "says": "it ends too soon", "blames": "at_eos"}],
            "outcomes": [{"means": "as it should be"}],
        }
        return predictions.write(tmp_path, {**predictions.ONE, **parts})

    return made


def results(folder: Path) -> list[Path]:
    return sorted(folder.glob("predictions.*.json"))


def test_a_prediction_is_run_and_its_result_is_kept(apr_command: Apr, write: Write, tmp_path: Path) -> None:
    path = write()
    found = apr_command("predict", "run", path, "--json")
    report = found.json()
    assert (found.exit_code, report["exit_code"], report["predictions"][0]["verdict"]) == (0, 0, "pass")
    (kept,) = results(tmp_path)
    saved = json.loads(kept.read_text(encoding="utf-8"))
    assert saved["file_sha256"] == report["file_sha256"] == sha256_of(path) and saved["schema"] == "apr.predict/1"
    assert [run["record"]["engine"] for run in saved["predictions"][0]["runs"]] == ["fake", "fake"]
    schema = json.loads((SCHEMAS / "apr.predict-1.json").read_text(encoding="utf-8"))
    assert errors_in(saved, schema) == [] and "result written to" in found.err


def test_a_confounded_prediction_is_refused_with_both_values(apr_command: Apr, write: Write) -> None:
    for action in ("check", "run"):
        found = apr_command("predict", action, write(engine="numpy", max_tokens=9))
        assert found.exit_code == 5
        assert "⊘ P-1  not comparable: the runs differ in more than at_eos: engine, max_tokens" in found.out
        assert "confound  engine: fake → numpy" in found.out and "confound  max_tokens: 4 → 9" in found.out


def test_check_runs_nothing_and_writes_nothing(apr_command: Apr, write: Write, tmp_path: Path) -> None:
    found = apr_command("predict", "check", write(), "--json")
    (result,) = found.json()["predictions"]
    assert (found.exit_code, result["verdict"], result["runs"]) == (0, "comparable", [])
    assert results(tmp_path) == []


def test_a_result_is_not_written_over(apr_command: Apr, write: Write, tmp_path: Path) -> None:
    out = tmp_path / "kept.json"
    assert apr_command("predict", "run", write(), "--out", out).exit_code == 0
    before = out.read_bytes()
    again = apr_command("predict", "run", write(), "--out", out)
    assert again.exit_code == 2 and "a result is not written over" in again.err and out.read_bytes() == before
    assert apr_command("predict", "run", write(), "--out", tmp_path / "no" / "a.json").exit_code == 2


def test_an_interruption_leaves_the_hash_that_was_fixed(
    apr_command: Apr, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apr.ledger import _runs

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    path = write()
    monkeypatch.setattr(_runs.Runner, "run", interrupted)
    assert apr_command("predict", "run", path).exit_code == 130
    (kept,) = results(tmp_path)
    saved = json.loads(kept.read_text(encoding="utf-8"))
    assert saved["file_sha256"] == sha256_of(path) and saved["predictions"][0]["verdict"] == "not_run"


def test_what_is_no_prediction_is_one_error_with_its_line(apr_command: Apr, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("schema: apr.predictions/1\npredictions:\n  - id: x\n")
    found = apr_command("predict", "run", path, "--json")
    error = found.json()
    assert (found.exit_code, error["code"]) == (3, "prediction-error") and "line 3: has no hypotheses" in error[
        "message"
    ]


def test_a_model_that_nobody_has_is_an_error_of_its_prediction(apr_command: Apr, write: Write) -> None:
    found = apr_command("predict", "run", write(model="nobody-has-this"), "--json")
    (result,) = found.json()["predictions"]
    # the declared field and the model: the file alone shows that, whether the model is there or not
    assert (found.exit_code, result["verdict"]) == (5, "not_comparable") and "nobody-has-this" in result["unforeseen"]
    path = write()
    path.write_text(path.read_text(encoding="utf-8").replace("model.gguf", "nobody-has-this"), encoding="utf-8")
    found = apr_command("predict", "run", path)
    assert found.exit_code == 4 and "the control run failed" in found.out


def test_both_commands_are_there() -> None:
    assert set(predict.command.commands) == {"check", "run"}
