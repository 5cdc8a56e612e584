"""How a promise stands, computed from evidence: what passed here, elsewhere, once, or under another wording."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import tiny
from apr.ledger import contract as contracts
from apr.ledger import evidence, standing
from apr.ledger._statement import Status
from apr.ledger.contract import Contract
from apr.ledger.evidence import Tested as Outcome

TEXT = """
metadata: {id: small, version: 1.0.0, status: PROPOSED, description: d, changelog: [{version: 1.0.0, changes: c}]}
falsification_tests:
  - {id: FALSIFY-S-001, prediction: p, check: {command: "inspect {model}", expect: {path: format, equals: gguf}}}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "model", "gguf")


@pytest.fixture
def promise(tmp_path: Path) -> Contract:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return contracts.read(path)


def ran(promise: Contract, status: Status, folder: Path, model: Path) -> Path:
    """A run with this outcome; its statement."""
    pending = evidence.begin(folder, model=model, contracts=[promise], command=("apr",))
    outcome = Outcome("FALSIFY-S-001", promise.id, promise.sha256, status, "said", ("apr",), {}, None, {}, 1.0)
    return evidence.finish(pending, [outcome])


def status_of(promise: Contract, model: Path, folder: Path) -> standing.StatusReport:
    return standing.status("m", model, [promise], folder=folder)


def test_without_evidence_nothing_is_shown(promise: Contract, model: Path, tmp_path: Path) -> None:
    report = status_of(promise, model, tmp_path / "evidence")
    assert [row.word for row in report.rows] == ["not_run"] and report.exit_code == 5


@pytest.mark.parametrize(
    ("status", "word", "exit_code"),
    [("pass", "discharged", 0), ("fail", "failed", 1), ("undecided", "undecided", 5), ("error", "error", 5),
     ("not_runnable", "not_runnable", 5)],
)  # fmt: skip
def test_each_outcome_has_its_word(
    status: Status, word: str, exit_code: int, promise: Contract, model: Path, tmp_path: Path
) -> None:
    path = ran(promise, status, tmp_path / "evidence", model)
    report = status_of(promise, model, tmp_path / "evidence")
    assert (report.rows[0].word, report.exit_code, report.rows[0].evidence) == (word, exit_code, path)


def test_the_newest_run_counts_whatever_came_of_it(promise: Contract, model: Path, tmp_path: Path) -> None:
    for status in ("pass", "fail"):
        ran(promise, status, tmp_path / "evidence", model)  # type: ignore[arg-type]
    assert status_of(promise, model, tmp_path / "evidence").rows[0].word == "failed"


def test_a_pass_on_another_model_is_partial(promise: Contract, model: Path, tmp_path: Path) -> None:
    other = tiny.write(tmp_path / "other", "gguf", tiny.config("qwen2"))
    ran(promise, "pass", tmp_path / "evidence", other)
    (row,) = status_of(promise, model, tmp_path / "evidence").rows
    assert row.word == "partial" and "was not run on this model" in row.sentence


def test_a_failure_on_another_model_says_nothing(promise: Contract, model: Path, tmp_path: Path) -> None:
    other = tiny.write(tmp_path / "other", "gguf", tiny.config("qwen2"))
    ran(promise, "fail", tmp_path / "evidence", other)
    assert status_of(promise, model, tmp_path / "evidence").rows[0].word == "not_run"


def test_a_contract_that_was_reworded_expires_its_evidence(promise: Contract, model: Path, tmp_path: Path) -> None:
    ran(promise, "pass", tmp_path / "evidence", model)
    promise.path.write_text(TEXT.replace("prediction: p", "prediction: q"), encoding="utf-8")
    (row,) = status_of(contracts.read(promise.path), model, tmp_path / "evidence").rows
    assert row.word == "expired" and "changed" in row.sentence


def test_a_model_that_was_changed_in_its_place_expires_its_evidence(
    promise: Contract, model: Path, tmp_path: Path
) -> None:
    ran(promise, "pass", tmp_path / "evidence", model)
    other = tiny.write(tmp_path / "other", "gguf", tiny.config("qwen2"))
    model.write_bytes(other.read_bytes())
    (row,) = status_of(promise, model, tmp_path / "evidence").rows
    assert row.word == "expired" and "the model changed" in row.sentence


def test_another_contract_of_the_same_run_expires_nothing(promise: Contract, model: Path, tmp_path: Path) -> None:
    beside = dataclasses.replace(promise, id="beside", sha256="0" * 64, path=tmp_path / "gone.yaml")
    pending = evidence.begin(tmp_path / "evidence", model=model, contracts=[promise, beside], command=("apr",))
    outcome = Outcome("FALSIFY-S-001", promise.id, promise.sha256, "pass", "said", ("apr",), {}, None, {}, 1.0)
    evidence.finish(pending, [outcome])
    assert status_of(promise, model, tmp_path / "evidence").rows[0].word == "discharged"


@pytest.mark.parametrize("how", ["deleted", "edited"])
def test_evidence_that_was_touched_counts_for_nothing(how: str, promise: Contract, model: Path, tmp_path: Path) -> None:
    path = ran(promise, "pass", tmp_path / "evidence", model)
    if how == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b'"said"', b'"told"'))
    report = status_of(promise, model, tmp_path / "evidence")
    assert report.rows[0].word == "not_run" and report.exit_code == 1 and len(report.problems) == 1
