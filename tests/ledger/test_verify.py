"""Contracts run on a tiny model: each test comes to what was planted, and the evidence says the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
from apr.cli import _checks
from apr.errors import UsageError
from apr.ledger import _running, contract, verify
from apr.ledger.evidence import Store

HEAD = """
metadata: {id: small, version: 1.0.0, status: PROPOSED, description: d, changelog: [{version: 1.0.0, changes: c}]}
falsification_tests:
"""
KEPT = """
  - {id: FALSIFY-S-001, prediction: p, check: {command: "inspect {model}", expect: {path: format, equals: gguf}}}
"""
BROKEN = """
  - {id: FALSIFY-S-002, prediction: p, check: {command: "inspect {model}", expect: {path: format, equals: apr}}}
"""
HARMLESS = BROKEN.replace("002", "003").replace("prediction: p", "prediction: p, ship_blocking: false")
ELSEWHERE = """
  - {id: FALSIFY-S-004, prediction: p, test: cargo test --lib ship_001}
"""
COMPARED = """
  - {id: FALSIFY-S-005, prediction: p, check: {link: metadata, expect: {path: benign, equals: true}}}
"""
NO_WORD = """
  - {id: FALSIFY-S-006, prediction: p, check: {command: "inspect {scratch}/nothing.gguf", expect: {path: format, equals: gguf}}}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("model"), "gguf")


def run(
    folder: Path, model: Path, *tests: str, reference: Path | None = None, **options: object
) -> verify.VerifyReport:
    path = folder / "contract.yaml"
    path.write_text(HEAD + "".join(tests), encoding="utf-8")
    given = str(reference) if reference is not None else None
    return verify.verify(
        str(model), model, [contract.read(path)], reference=given, reference_path=reference, folder=folder / "evidence",
        resolve=_checks.problem, tell=lambda what, share: None, **options,
    )  # type: ignore[arg-type]  # fmt: skip


def test_a_kept_promise_is_evidence_of_these_bytes(model: Path, tmp_path: Path) -> None:
    report = run(tmp_path, model, KEPT)
    assert (report.verdict, report.exit_code, report.counts["pass"]) == ("kept", 0, 1)
    store = Store(tmp_path / "evidence")
    (entry,) = store.entries()
    (tested,) = entry.record.tests
    assert store.verify() == [] and entry.path == report.evidence
    assert tested.command == ("apr", "inspect", "--json", str(model)) and tested.document["format"] == "gguf"
    assert json.loads(report.evidence.read_bytes())["predicate"]["passedTests"] == ["small/FALSIFY-S-001"]


@pytest.mark.parametrize(
    ("tests", "statuses", "verdict", "exit_code"),
    [
        ((KEPT, BROKEN), ["pass", "fail"], "broken", 1),
        ((KEPT, HARMLESS), ["pass", "fail"], "kept", 0),
        ((KEPT, ELSEWHERE), ["pass", "not_runnable"], "open", 5),
        ((KEPT, COMPARED), ["pass", "not_runnable"], "open", 5),
        ((HARMLESS,), ["fail"], "open", 5),
        ((KEPT, NO_WORD), ["pass", "error"], "error", 4),
        ((NO_WORD, BROKEN), ["error", "fail"], "broken", 1),
    ],
    ids=["broken", "harmless", "cargo", "no reference", "nothing blocks", "no JSON", "both"],
)
def test_what_cannot_be_shown_is_never_passed(
    tests: tuple[str, ...], statuses: list[str], verdict: str, exit_code: int, model: Path, tmp_path: Path
) -> None:
    report = run(tmp_path, model, *tests)
    assert [row.status for row in report.rows] == statuses
    assert (report.verdict, report.exit_code) == (verdict, exit_code)
    assert all(row.sentence for row in report.rows)


def test_a_link_runs_against_the_original(model: Path, tmp_path: Path) -> None:
    original = tiny.write(tmp_path / "original", "safetensors")
    report = run(tmp_path, model, COMPARED, reference=original)
    assert report.verdict == "kept" and report.rows[0].command[3:5] == (str(original), str(model))


def test_a_model_is_not_its_own_original(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / model.name
    copy.write_bytes(model.read_bytes())
    with pytest.raises(UsageError, match="is the model itself"):
        run(tmp_path, model, COMPARED, reference=copy)
    assert not (tmp_path / "evidence").exists()


def test_one_test_alone_and_one_that_is_not_there(model: Path, tmp_path: Path) -> None:
    assert [row.id for row in run(tmp_path, model, KEPT, BROKEN, only=("FALSIFY-S-001",)).rows] == ["FALSIFY-S-001"]
    with pytest.raises(UsageError, match="no test FALSIFY-S-009"):
        run(tmp_path, model, KEPT, only=("FALSIFY-S-009",))
    with pytest.raises(UsageError, match="no falsification test"):
        run(tmp_path, model, "  []")


def test_a_check_that_could_do_harm_is_not_run(model: Path, tmp_path: Path) -> None:
    (row,) = run(tmp_path, model, KEPT.replace("inspect {model}", "rm {model}")).rows
    assert row.status == "error" and "no command 'rm'" in row.sentence and row.command == ()


def test_an_interrupted_run_keeps_what_it_had_found_and_is_called_abandoned(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, interrupts = _running.run, iter([True, False, True])

    def interrupted(command: tuple[str, ...], *, timeout_s: float) -> _running.Ran:
        if next(interrupts):
            raise KeyboardInterrupt
        return inner(command, timeout_s=timeout_s)

    monkeypatch.setattr(_running, "run", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, model, KEPT, BROKEN)
    first, second = (entry.record for entry in Store(tmp_path / "evidence").entries())
    assert (first.ended, first.tests) == ("abandoned", ())
    assert (second.ended, [(test.id, test.status) for test in second.tests]) == (
        "abandoned",
        [("FALSIFY-S-001", "pass")],
    )


def test_a_check_beyond_its_time_is_killed_with_its_children() -> None:
    ran = _running.run(("apr", "--help"), timeout_s=0.01)
    assert ran.document is None and "killed after 0.01 s" in ran.said


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", None), ("no JSON", None), ("[1]", None), ('{"a": 1}', {"a": 1}), ('{"a": 1}\n{"a": 2}\n', {"records": [{"a": 1}, {"a": 2}]})],
)  # fmt: skip
def test_documents_are_one_object_or_run_records(text: str, expected: object) -> None:
    assert _running._document(text) == expected


def test_what_ran_before_the_end_is_kept_and_the_rest_is_not_in_it(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(HEAD + KEPT + BROKEN, encoding="utf-8")
    made = contract.read(path)
    begun = verify.Verification(
        str(model), model, [made], folder=tmp_path / "evidence", resolve=_checks.problem, argv=("pytest",)
    )
    path.write_text("changed: while it runs", encoding="utf-8")
    assert begun.run(made, made.falsifications[0]).status == "pass"
    report = begun.finish()
    assert (report.verdict, [row.id for row in report.rows]) == ("kept", ["FALSIFY-S-001"])
    (entry,) = Store(tmp_path / "evidence").entries()
    assert entry.record.begun.contracts[0].sha256 == made.sha256 and entry.record.begun.command == ("pytest",)
