"""`apr contract`: what a person and a program see, and what exit status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

import tiny
from apr.cli import _checks, group
from apr.ledger._rules import RULES
from apr.ledger.contract import Check

ROOT = Path(__file__).parents[2]
HEALTHY = ROOT / "tests" / "fixtures" / "contracts" / "healthy.yaml"


def test_a_healthy_contract_passes(apr_command: Any) -> None:
    done = apr_command("contract", "lint", HEALTHY)
    assert done.exit_code == 0 and "pass: 1 contract, 0 errors" in done.out
    assert "3 run here, 1 elsewhere" in done.out


def test_a_finding_has_file_line_and_rule(apr_command: Any, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(HEALTHY.read_text().replace("{gate: golden_output}", "{gate: golden}"))
    done = apr_command("contract", "lint", path)
    assert done.exit_code == 1
    assert done.out.startswith(f"{path}:42: error APR-CON-007 FALSIFY-TOY-002: no gate 'golden'")


def test_a_report_for_a_program_follows_its_schema(apr_command: Any, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(HEALTHY.read_text().replace("status: ACTIVE\n", "status: DONE\n"))
    report = apr_command("contract", "lint", path, HEALTHY, "--json").json()
    assert report["schema"] == "apr.contract-lint/1" and report["exit_code"] == 1
    assert {one["rule"] for one in report["findings"]} == {"APR-CON-005", "APR-CON-012"}


def test_without_paths_the_folder_contracts_is_meant(
    apr_command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert apr_command("contract", "lint").exit_code == 2
    (tmp_path / "contracts").mkdir()
    nothing = apr_command("contract", "lint", "--json")
    assert nothing.exit_code == 2 and nothing.json()["findings"][0]["rule"] == "APR-CON-018"
    (tmp_path / "contracts" / "c.yml").write_text(HEALTHY.read_text())
    assert apr_command("contract", "lint").exit_code == 0


def test_a_weakened_contract_is_told(apr_command: Any, tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(HEALTHY.read_text().replace("tolerance: 0.001", "tolerance: 0.1"))
    done = apr_command("contract", "diff", HEALTHY, path)
    assert done.exit_code == 1
    assert "✗ weakened  OB-TOY-001.tolerance is looser: 0.001 became 0.1" in done.out
    assert "1 promise weakened; the version stays, too small: the changes ask for MAJOR" in done.out
    report = apr_command("contract", "diff", HEALTHY, path, "--json").json()
    assert report["schema"] == "apr.contract-diff/1" and report["n_weakened"] == 1


def test_a_contract_equals_itself(apr_command: Any) -> None:
    done = apr_command("contract", "diff", HEALTHY, HEALTHY)
    assert done.exit_code == 0 and "nothing is promised less" in done.out


def test_what_is_no_contract_gets_one_error(apr_command: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("a: [\n")
    done = apr_command("contract", "diff", path, HEALTHY, "--json")
    assert done.exit_code == 2 and done.json()["code"] == "contract-error"
    assert f"{path}:2: no YAML" in done.err


@pytest.mark.parametrize("name", _checks.COMMANDS)
def test_every_command_of_a_check_is_there_and_prints_json(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None and "as_json" in {param.name for param in command.params}


@pytest.mark.parametrize("name", ["rm", "pull", "chat", "contract", "list", "completion", "../x", "_checks", "nothing"])
def test_no_other_command_is_a_check(name: str) -> None:
    assert "no command" in str(_checks.problem(Check("command", name, ("--json", "{model}"), (), 1)))


def test_every_rule_stands_in_the_page() -> None:
    page = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")
    assert [rule.id for rule in RULES.values() if f"| {rule.id} | {rule.meaning}" not in page] == []


PROMISES = """
metadata: {id: small, version: 1.0.0, status: PROPOSED, description: d, changelog: [{version: 1.0.0, changes: c}]}
falsification_tests:
  - {id: FALSIFY-S-001, prediction: p, check: {command: "inspect {model}", expect: {path: format, equals: gguf}}}
  - {id: FALSIFY-S-002, prediction: p, ship_blocking: false, test: cargo test --lib ship_001}
"""


def test_a_model_is_held_to_its_promises_and_its_standing_follows(apr_command: Any, tmp_path: Path) -> None:
    path, model, store = tmp_path / "c.yaml", tiny.write(tmp_path / "m", "gguf"), tmp_path / "evidence"
    path.write_text(PROMISES, encoding="utf-8")
    before = apr_command("contract", "status", model, "--contract", path, "--store", store)
    assert before.exit_code == 5 and f"next: apr contract verify {model}" in before.out
    done = apr_command("contract", "verify", model, "--contract", path, "--store", store)
    assert done.exit_code == 0 and "✓ pass" in done.out and "- not runnable" in done.out
    assert "kept: 1 pass, 1 not runnable" in done.out and "(blocks nothing)" in done.out
    after = apr_command("contract", "status", model, "--contract", tmp_path, "--store", store, "--json").json()
    assert [row["word"] for row in after["rows"]] == ["discharged", "not_runnable"] and after["exit_code"] == 0
    assert apr_command("evidence", "verify", "--store", store).exit_code == 0
    (store / "index.jsonl").write_bytes(b"")
    touched = apr_command("contract", "status", model, "--contract", path, "--store", store)
    assert touched.exit_code == 1 and f"next: apr evidence verify --store {store}" in touched.out


def test_a_broken_promise_is_exit_one_and_json_says_where(apr_command: Any, tmp_path: Path) -> None:
    path, model = tmp_path / "c.yaml", tiny.write(tmp_path / "m", "gguf")
    path.write_text(PROMISES.replace("equals: gguf", "equals: apr"), encoding="utf-8")
    report = apr_command("contract", "verify", model, "--contract", path, "--store", tmp_path / "e", "--json").json()
    assert (report["verdict"], report["exit_code"]) == ("broken", 1) and Path(report["evidence"]).exists()
    stands = apr_command("contract", "status", model, "--contract", path, "--store", tmp_path / "e")
    assert stands.exit_code == 1 and "✗ failed" in stands.out


def test_no_contract_is_an_error(apr_command: Any, tmp_path: Path) -> None:
    model = tiny.write(tmp_path / "m", "gguf")
    done = apr_command("contract", "verify", model, "--contract", tmp_path)
    assert done.exit_code == 2 and "no contract in" in done.err


def test_the_report_is_written_as_markdown_too(apr_command: Any, tmp_path: Path) -> None:
    path, model, page = tmp_path / "c.yaml", tiny.write(tmp_path / "m", "gguf"), tmp_path / "page.md"
    path.write_text(PROMISES.replace("equals: gguf", "equals: apr"), encoding="utf-8")
    words = ("contract", "verify", model, "--contract", path, "--store", tmp_path / "e", "--markdown")
    assert apr_command(*words, page, "--json").json()["verdict"] == "broken"
    assert page.read_text(encoding="utf-8").startswith("### ✗ broken: 1 fail, 1 not runnable")
    refused = apr_command(*words, tmp_path / "nowhere" / "page.md"), apr_command(*words, model)
    assert [one.exit_code for one in refused] == [2, 2] and "--markdown" in refused[0].err
    assert "no page; give a name that ends in .md" in refused[1].err
