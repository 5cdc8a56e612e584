"""`apr evidence` on a store of the test's own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from apr.ledger import _index, evidence
from evidence_runs import Promise, begin, finished, verdict


@pytest.fixture
def store(tmp_path: Path, tiny_gguf: Path) -> Path:
    """A store with one run."""
    finished(tmp_path / "evidence", tiny_gguf, verdict("A"), verdict("B", "undecided"))
    return tmp_path / "evidence"


def run_of(store: Path) -> str:
    return _index.Index(store).rows[0].id


def test_list_shows_every_run(apr_command: Any, store: Path) -> None:
    (run,) = apr_command("evidence", "list", "--store", store, "--json").json()["runs"]
    assert run["id"] == run_of(store) and run["result"] == "WARNED" and run["counts"]["pass"] == 1
    shown = apr_command("evidence", "list", "--store", store)
    assert shown.exit_code == 0 and "not all shown" in shown.out and "1 pass, 1 undecided" in shown.out


def test_list_of_a_model_says_what_still_holds(apr_command: Any, store: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    outcome = apr_command("evidence", "list", tiny_gguf, "--store", store)
    assert "the contract qwen-ship-v1 is not here" in outcome.out  # it lies nowhere
    contract = tmp_path / "contract.yaml"
    contract.write_bytes(b"promise")
    promise = Promise(path=contract, sha256=hashlib.sha256(b"promise").hexdigest())
    evidence.finish(begin(store, tiny_gguf, contracts=[promise]), [verdict(contract=promise)])
    runs = apr_command("evidence", "list", tiny_gguf, "--store", store, "--json").json()["runs"]
    assert [run["expired"] is None for run in runs] == [False, True]
    other = tmp_path / "other.gguf"
    data = bytearray(tiny_gguf.read_bytes())
    data[-1] ^= 1
    other.write_bytes(data)
    assert "no evidence of" in apr_command("evidence", "list", other, "--store", store).out


def test_show_has_what_was_fixed_and_every_verdict(apr_command: Any, store: Path) -> None:
    result = apr_command("evidence", "show", run_of(store), "--store", store, "--json").json()
    assert [test["id"] for test in result["record"]["tests"]] == ["A", "B"]
    assert result["record"]["begun"]["command"][:2] == ["apr", "verify"] and result["row"]["n"] == 1
    out = apr_command("evidence", "show", run_of(store), "--store", store).out
    assert "qwen-ship-v1/A" in out and "qwen-ship-v1 1.2.0" in out and "not all shown: 1 pass, 1 undecided" in out


@pytest.mark.parametrize("run", ["../x", "20260102T030405Z-0a1b2c3d"])
def test_show_of_what_is_not_there_says_so(apr_command: Any, store: Path, run: str) -> None:
    outcome = apr_command("evidence", "show", run, "--store", store)
    assert outcome.exit_code == 2 and "apr evidence list shows" in outcome.err


def test_verify_of_an_untouched_store_passes_and_names_its_head(apr_command: Any, store: Path) -> None:
    outcome = apr_command("evidence", "verify", "--store", store, "--json")
    result = outcome.json()
    assert outcome.exit_code == 0 and result["problems"] == [] and result["n_runs"] == 1
    again = apr_command("evidence", "verify", "--store", store, "--head", result["head"])
    assert again.exit_code == 0 and "every one as it was written" in again.out and result["head"] in again.out
    assert apr_command("evidence", "verify", "--store", store, "--head", "00" * 32).exit_code == 1


def test_verify_names_each_problem(apr_command: Any, store: Path, tiny_gguf: Path) -> None:
    os.close(begin(store, tiny_gguf)._lock)
    path = _index.statement_path(store, run_of(store))
    path.write_text(path.read_text().replace('"undecided"', '"pass"'))
    outcome = apr_command("evidence", "verify", "--store", store, "--json")
    assert outcome.exit_code == 1
    assert [problem["kind"] for problem in outcome.json()["problems"]] == ["statement_edited", "unfinished"]
    out = apr_command("evidence", "verify", "--store", store).out
    assert "statement_edited" in out and "unfinished" in out and "2 problems" in out
    assert apr_command("evidence", "list", "--store", store).exit_code == 3


def test_verify_of_nothing_is_no_pass(apr_command: Any, tmp_path: Path) -> None:
    outcome = apr_command("evidence", "verify", "--store", tmp_path / "none")
    assert outcome.exit_code == 5 and "nothing to verify" in outcome.out
    assert apr_command("evidence", "list", "--store", tmp_path / "none").out.startswith("no evidence in")


def test_a_run_under_way_is_shown_and_is_no_problem(apr_command: Any, store: Path, tiny_gguf: Path) -> None:
    pending = begin(store, tiny_gguf)
    assert f"under way: {pending.id}" in apr_command("evidence", "list", "--store", store).out
    outcome = apr_command("evidence", "verify", "--store", store)
    assert outcome.exit_code == 0 and f"under way: {pending.id}" in outcome.out


def test_close_ends_a_run_that_died(apr_command: Any, store: Path, tiny_gguf: Path) -> None:
    pending = begin(store, tiny_gguf)
    assert apr_command("evidence", "close", pending.id, "--store", store).exit_code == 2
    os.close(pending._lock)
    assert apr_command("evidence", "close", pending.id, "--store", store, "--json").json()["id"] == pending.id
    assert "abandoned" in apr_command("evidence", "list", "--store", store).out
    assert "no test was run" in apr_command("evidence", "show", pending.id, "--store", store).out


def test_what_came_from_a_file_cannot_steer_a_terminal(apr_command: Any, store: Path, tiny_gguf: Path) -> None:
    hostile = Promise(id="x\x1b[2J", version="\u202e1")
    run = begin(store, tiny_gguf, contracts=[hostile])
    evidence.finish(run, [verdict("t\x1b[2J", contract=hostile)])
    for arguments in (["list"], ["show", run.id]):
        out = apr_command("evidence", *arguments, "--store", store).out
        assert "\x1b" not in out and "\u202e" not in out and "x\\x1b" in out
