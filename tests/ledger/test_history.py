"""What is kept of results: each change once, in a file that a kill, a stranger and a read-only folder do not upset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apr.ledger import _history

OPEN = {"M": {"tensors": "ab"}, "M/AC-1": {"status": "not_run", "weight": "1"}}
DONE = {"M": {"tensors": "ab"}, "M/AC-1": {"status": "discharged", "weight": "1"}}


def kept(folder: Path, states: _history.States, *, plan: str = "ship.yaml", figure: float = 0.0) -> _history.Kept:
    return _history.keep(folder, plan, figure, states, head="c0ffee")


def test_a_result_is_kept_when_it_is_another(tmp_path: Path) -> None:
    for states in (OPEN, OPEN, DONE, DONE):
        found = kept(tmp_path, states)
    assert len((tmp_path / "ship.jsonl").read_text().splitlines()) == 2
    assert found.changes == (_history.Change("M/AC-1", "status", "not_run", "discharged"),) and found.since is not None
    assert _history.head(tmp_path, "ship.yaml") == "c0ffee" and _history.head(tmp_path, "other.yaml") is None


def test_plans_are_told_apart(tmp_path: Path) -> None:
    kept(tmp_path, OPEN)
    assert kept(tmp_path, DONE, plan="other.yaml").since is None


def test_what_is_new_and_what_is_gone(tmp_path: Path) -> None:
    kept(tmp_path, OPEN)
    found = kept(tmp_path, {"M": {"tensors": "cd"}, "M/AC-2": {"status": "failed"}})
    assert {(one.of, one.what, one.before, one.after) for one in found.changes} == {
        ("M", "tensors", "ab", "cd"),
        ("M/AC-2", "status", None, "failed"),
        ("M/AC-1", "status", "not_run", None),
        ("M/AC-1", "weight", "1", None),
    }


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert kept(tmp_path / "gone", OPEN).since is None and not (tmp_path / "gone").exists()


@pytest.mark.parametrize("line", ["{", "[]", "null", '{"plan": "ship.yaml"}', '{"plan": "ship.yaml", "at": 1, "figure": "x", "head": null, "states": []}'])  # fmt: skip
def test_a_line_that_is_none_is_left_out_and_named(line: str, tmp_path: Path) -> None:
    kept(tmp_path, OPEN)
    path = tmp_path / "ship.jsonl"
    path.write_text(path.read_text() + line)
    found = kept(tmp_path, DONE)
    assert len(found.changes) == 1 and "ship.jsonl:2 is no result" in found.notes[0]
    assert [json.loads(one)["plan"] for one in (path.read_text().splitlines()[0], path.read_text().splitlines()[-1])]


def test_a_store_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_history._atomic, "write_bytes", refused)
    assert "is not kept" in kept(tmp_path, OPEN).notes[0]
