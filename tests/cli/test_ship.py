"""`apr ship` as it is typed: from a contract that was really verified to the figure, the page and the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny

CONTRACT = """
metadata: {id: small, version: 1.0.0, status: PROPOSED, description: d, changelog: [{version: 1.0.0, changes: c}]}
falsification_tests:
  - {id: F-1, prediction: it can be read, check: {command: "inspect {model}", expect: {path: format, equals: gguf}}}
  - {id: F-2, prediction: it has a licence, check: {command: "inspect {model}", expect: {path: license, matches: apache}}}
"""
PLAN = """
models:
  - {id: M, model: model.gguf, contract: small.yaml, criteria: [{id: AC-1, check: F-1}, {id: AC-2, check: F-2}]}
"""


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "small.yaml").write_text(CONTRACT, encoding="utf-8")
    (tmp_path / "ship.yaml").write_text(PLAN, encoding="utf-8")
    tiny.write(tmp_path, "gguf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_nothing_to_a_figure(apr_command: Any, release: Path) -> None:
    before = apr_command("ship", "--json")
    assert (before.json()["figure"], before.exit_code) == (0, 5)
    assert apr_command("contract", "verify", "model.gguf", "--contract", "small.yaml").exit_code == 1
    after = apr_command("ship", "--json")
    assert (after.json()["figure"], after.json()["verdict"], after.exit_code) == (0.5, "hold", 1)
    shown = apr_command("ship")
    assert "✗ failed      AC-2  it has a licence: license is null" in shown.out
    (statement,) = (release / "evidence" / "statements").glob("*.json")
    statement.unlink()
    touched = apr_command("ship")
    assert touched.exit_code == 1 and "0 %" in touched.out and "it was deleted" in touched.out


def test_page_and_card_are_written(apr_command: Any, release: Path) -> None:
    outcome = apr_command("ship", "--html", "ship.html", "--card", "README.md")
    assert outcome.exit_code == 5 and "written to ship.html" in outcome.err
    assert "apr ship: begin" in (release / "README.md").read_text(encoding="utf-8")
    assert "<!doctype html>" in (release / "ship.html").read_text(encoding="utf-8")


def test_a_card_that_cannot_be_written_is_said_and_kept(apr_command: Any, release: Path) -> None:
    (release / "README.md").write_text("<!-- apr ship: begin -->\n", encoding="utf-8")
    outcome = apr_command("ship", "--card", "README.md")
    assert outcome.exit_code == 2 and "do not stand once" in outcome.err and "0 of 2 criteria" in outcome.out
    assert apr_command("ship", "--html", "gone/ship.html").exit_code == 2


def test_a_plan_that_is_wrong_names_its_line(apr_command: Any, release: Path) -> None:
    (release / "ship.yaml").write_text(PLAN.replace("F-2", "F-9"), encoding="utf-8")
    outcome = apr_command("ship")
    assert outcome.exit_code == 2 and "ship.yaml:3" in outcome.err and "has no test F-9" in outcome.err
    (release / "ship.yaml").unlink()
    assert apr_command("ship").exit_code == 2
