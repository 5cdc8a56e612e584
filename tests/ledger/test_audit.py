"""Whatever is done to a store from outside is found, named, and told from everything else."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from apr.ledger import _index
from apr.ledger.evidence import Store
from evidence_runs import begin, finished, verdict

Damage = Callable[[Path, list[str]], None]


@pytest.fixture
def runs(store: Path, model: Path) -> list[str]:
    """Three runs in the store."""
    return [finished(store, model, verdict(f"SHIP-00{n}")) for n in range(3)]


def statement(folder: Path, run: str) -> Path:
    return _index.statement_path(folder, run)


def kinds(folder: Path) -> list[str]:
    return [problem.kind for problem in Store(folder).verify()]


def delete(folder: Path, runs: list[str]) -> None:
    statement(folder, runs[1]).unlink()


def truncate(folder: Path, runs: list[str]) -> None:
    path = statement(folder, runs[1])
    path.write_bytes(path.read_bytes()[:-50])


def empty(folder: Path, runs: list[str]) -> None:
    statement(folder, runs[1]).write_bytes(b"")


def edit(folder: Path, runs: list[str]) -> None:
    path = statement(folder, runs[1])
    path.write_text(path.read_text().replace('"SHIP-001"', '"SHIP-009"'))


def shorten(folder: Path, runs: list[str]) -> None:
    path = statement(folder, runs[1])
    path.write_text(path.read_text().replace('"undecided"', '"pass"').replace("  ", " "))


def blank(folder: Path, runs: list[str]) -> None:
    path = statement(folder, runs[1])
    path.write_bytes(path.read_bytes() + b" ")


def swap(folder: Path, runs: list[str]) -> None:
    one, other = statement(folder, runs[1]), statement(folder, runs[2])
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])


def copy(folder: Path, runs: list[str]) -> None:
    shutil.copy(statement(folder, runs[0]), statement(folder, runs[1]))


def add(folder: Path, runs: list[str]) -> None:
    shutil.copy(statement(folder, runs[0]), statement(folder, "20260102T030405Z-0a1b2c3d"))


def forget(folder: Path, runs: list[str]) -> None:
    rows = (folder / "index.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "index.jsonl").write_bytes(b"".join([rows[0], rows[2]]))


def forget_last(folder: Path, runs: list[str]) -> None:
    rows = (folder / "index.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "index.jsonl").write_bytes(b"".join(rows[:2]))


def forget_whole(folder: Path, runs: list[str]) -> None:
    """The last run, its row and the head: as if it had never been; only a head kept elsewhere knows."""
    forget_last(folder, runs)
    statement(folder, runs[2]).unlink()
    row = json.loads((folder / "index.jsonl").read_bytes().splitlines()[1])
    (folder / "head.json").write_text(json.dumps({"n": 2, "hash": row["hash"]}))


def list_foreign(folder: Path, runs: list[str]) -> None:
    """A file that is no statement, listed as the index demands."""
    path = statement(folder, "20260102T030405Z-0a1b2c3d")
    path.write_bytes(b'{"_type": "https://in-toto.io/Statement/v1"}')
    with _index.locked(folder, for_writing=True):
        index = _index.Index(folder)
        index.append(path.name[: -len(".intoto.json")], statement=path.read_bytes(), written_at="x", pending=())


def list_for_another(folder: Path, runs: list[str]) -> None:
    """The statement of one run, listed as that of another."""
    content = statement(folder, runs[0]).read_bytes()
    statement(folder, "20260102T030405Z-0a1b2c3d").write_bytes(content)
    with _index.locked(folder, for_writing=True):
        index = _index.Index(folder)
        index.append("20260102T030405Z-0a1b2c3d", statement=content, written_at="x", pending=())


def envelope(folder: Path, runs: list[str]) -> None:
    other = base64.b64encode(statement(folder, runs[0]).read_bytes()).decode()
    text = json.dumps({"payloadType": "application/vnd.in-toto+json", "payload": other, "signatures": []})
    _index.envelope_path(folder, runs[1]).write_text(text)


def bad_envelope(folder: Path, runs: list[str]) -> None:
    _index.envelope_path(folder, runs[1]).write_text('{"payload": "!"}')


DAMAGES: list[tuple[Damage, list[str]]] = [
    (delete, ["statement_deleted"]),
    (truncate, ["statement_truncated"]),
    (empty, ["statement_truncated"]),
    (edit, ["statement_edited"]),
    (shorten, ["statement_edited"]),
    (blank, ["statement_edited"]),
    (swap, ["statement_swapped", "statement_swapped"]),
    (copy, ["statement_swapped"]),
    (add, ["statement_not_listed"]),
    (forget, ["index_row_deleted", "statement_not_listed"]),
    (forget_last, ["index_truncated", "statement_not_listed"]),
    (list_foreign, ["statement_malformed"]),
    (list_for_another, ["statement_malformed"]),
    (envelope, ["envelope_differs"]),
    (bad_envelope, ["envelope_differs"]),
]


def test_an_untouched_store_has_no_problem(store: Path, runs: list[str]) -> None:
    assert kinds(store) == [] and [entry.row.id for entry in Store(store).entries()] == runs


def test_a_store_that_is_not_there_has_no_problem_and_is_not_made(store: Path) -> None:
    assert kinds(store) == [] and not store.exists()


@pytest.mark.parametrize(("damage", "expected"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_each_damage_is_found_and_told_from_the_others(
    store: Path, runs: list[str], damage: Damage, expected: list[str]
) -> None:
    damage(store, runs)
    found = Store(store).verify()
    assert [problem.kind for problem in found] == expected
    assert all(problem.where and problem.sentence for problem in found)


def test_every_byte_of_a_statement_counts(store: Path, model: Path) -> None:
    path = statement(store, finished(store, model))
    whole = path.read_bytes()
    for at in range(0, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert kinds(store) == ["statement_edited"]
        path.write_bytes(whole[:at])
        assert kinds(store) == ["statement_truncated"]


def test_a_head_kept_elsewhere_finds_what_was_removed_without_trace(store: Path, runs: list[str]) -> None:
    n, head = Store(store).extent()
    assert n == 3 and head is not None and Store(store).verify(head=head) == []
    forget_whole(store, runs)
    assert kinds(store) == []
    assert [problem.kind for problem in Store(store).verify(head=head)] == ["index_rewritten"]


def test_a_run_under_way_is_no_problem_and_one_that_died_is(store: Path, model: Path) -> None:
    pending = begin(store, model)
    assert kinds(store) == [] and Store(store).under_way() == [pending.id]
    os.close(pending._lock)
    (problem,) = Store(store).verify()
    assert problem.kind == "unfinished" and problem.where == f"pending/{pending.id}.json"
    assert problem.sentence.endswith(f"next: apr evidence close {pending.id} --store {store}")
