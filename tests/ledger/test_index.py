"""Rows are appended, chained and never covered up; a torn end is cut, anything else refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from apr.errors import FormatError, UsageError
from apr.ledger import _index
from apr.ledger._index import GENESIS, Index

RUNS = [f"20260102T03040{i}Z-0a1b2c3d" for i in range(6)]


def add(folder: Path, *runs: str) -> None:
    for run in runs:
        with _index.locked(folder, for_writing=True):
            Index(folder).append(run, statement=run.encode(), written_at="2026-01-02T03:04:05Z", pending=())


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """A folder with four rows."""
    add(tmp_path, *RUNS[:4])
    return tmp_path


def kinds(folder: Path, pending: tuple[str, ...] = ()) -> list[str]:
    return [problem.kind for problem in Index(folder).check(pending)]


def lines(folder: Path) -> list[bytes]:
    return (folder / "index.jsonl").read_bytes().splitlines(keepends=True)


def put(folder: Path, rows: list[bytes]) -> None:
    (folder / "index.jsonl").write_bytes(b"".join(rows))


def edited(row: bytes, **changes: object) -> bytes:
    return json.dumps(json.loads(row) | changes, separators=(",", ":")).encode() + b"\n"


def rehashed(row: bytes, **changes: object) -> bytes:
    values = json.loads(row) | changes
    del values["hash"], values["schema"]
    return edited(row, **changes, hash=_index.sha256(_index.canonical(values)))


def test_an_index_that_is_not_there_is_empty_and_whole(tmp_path: Path) -> None:
    assert Index(tmp_path).rows == [] and kinds(tmp_path) == []


def test_rows_are_numbered_and_each_holds_the_hash_of_the_one_before(four: Path) -> None:
    rows = Index(four).rows
    assert [row.n for row in rows] == [1, 2, 3, 4] and [row.id for row in rows] == RUNS[:4]
    assert [row.previous for row in rows] == [GENESIS, *(row.hash for row in rows[:-1])]
    assert json.loads((four / "head.json").read_text()) == {"n": 4, "hash": rows[-1].hash} and kinds(four) == []


def test_the_chain_can_be_followed_without_us(four: Path) -> None:
    row = json.loads(lines(four)[1])
    del row["hash"], row["schema"]
    text = json.dumps(row, sort_keys=True, separators=(",", ":"))
    digest = subprocess.run(["sha256sum"], input=text.encode(), capture_output=True, check=True).stdout.split()[0]
    assert digest.decode() == Index(four).rows[1].hash == json.loads(lines(four)[2])["previous"]


def rewritten(rows: list[bytes]) -> list[bytes]:
    """A chain that is right in itself."""
    made: list[bytes] = []
    for n, row in enumerate(rows, start=1):
        made.append(rehashed(row, n=n, previous=json.loads(made[-1])["hash"] if made else GENESIS))
    return made


DAMAGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], list[str]]] = {
    "first deleted": (lambda r: r[1:], ["index_row_deleted"]),
    "middle deleted": (lambda r: [r[0], *r[2:]], ["index_row_deleted"]),
    "two deleted": (lambda r: [r[0], r[3]], ["index_row_deleted", "index_row_deleted"]),
    "last deleted": (lambda r: r[:-1], ["index_truncated"]),
    "all deleted": (lambda r: [], ["index_truncated"]),
    "cut in the last row": (lambda r: [*r[:3], r[3][:40]], ["index_truncated"]),
    "cut in a middle row": (lambda r: [r[0], r[1][:9]], ["index_truncated"]),
    "swapped": (lambda r: [r[0], r[2], r[1], r[3]], ["index_rows_swapped"]),
    "last two swapped": (lambda r: [r[0], r[1], r[3], r[2]], ["index_rows_swapped"]),
    "copied": (lambda r: [r[0], r[1], r[1], *r[2:]], ["index_rows_swapped"]),
    "id edited": (lambda r: [edited(r[0], id=RUNS[5]), *r[1:]], ["index_row_edited"]),
    "digest edited": (lambda r: [r[0], edited(r[1], sha256="0" * 64), *r[2:]], ["index_row_edited"]),
    "hash edited": (lambda r: [r[0], edited(r[1], hash="0" * 64), *r[2:]], ["index_row_edited"]),
    "previous edited": (lambda r: [r[0], edited(r[1], previous="0" * 64), *r[2:]], ["index_row_edited"]),
    "last edited": (lambda r: [*r[:3], edited(r[3], sha256="0" * 64)], ["index_row_edited"]),
    "replaced": (lambda r: [r[0], rehashed(r[1], sha256="0" * 64), *r[2:]], ["index_row_edited"]),
    "last replaced": (lambda r: [*r[:3], rehashed(r[3], sha256="0" * 64)], ["index_rewritten"]),
    "all written again": (lambda r: rewritten([r[0], r[2], r[1], r[3]]), ["index_rewritten"]),
    "one left out and written again": (lambda r: rewritten([r[0], r[2], r[3]]), ["index_truncated"]),
    "unreadable": (lambda r: [r[0], b"{}\n", *r[2:]], ["index_unreadable_row"]),
    "last unreadable": (lambda r: [*r[:3], b"\xff\xfe\n"], ["index_unreadable_row"]),
    "an id that is a path": (lambda r: [r[0], rehashed(r[1], id="../../etc/passwd"), *r[2:]], ["index_unreadable_row"]),
    "a number that is none": (lambda r: [r[0], edited(r[1], n=True), *r[2:]], ["index_unreadable_row"]),
    "row added": (lambda r: [*r, rehashed(r[3], n=5, previous=json.loads(r[3])["hash"], id=RUNS[5])], ["index_row_added"]),
    "half a row after": (lambda r: [*r, r[3][:40]], ["index_half_row"]),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_found_and_told_from_the_others(four: Path, name: str) -> None:
    damage, expected = DAMAGES[name]
    put(four, damage(lines(four)))
    assert kinds(four) == expected


@pytest.mark.parametrize("name", [name for name in DAMAGES if name != "half a row after"])
def test_nothing_is_appended_to_a_damaged_index(four: Path, name: str) -> None:
    damage, _ = DAMAGES[name]
    put(four, damage(lines(four)))
    before, head = lines(four), (four / "head.json").read_bytes()
    with pytest.raises(FormatError, match="nothing is added to a damaged index"):
        add(four, RUNS[4])
    assert lines(four) == before and (four / "head.json").read_bytes() == head


@pytest.mark.parametrize("step", [pytest.param(7, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)])
def test_every_byte_of_the_index_counts(step: int, four: Path) -> None:
    path = four / "index.jsonl"
    whole = path.read_bytes()
    for at in range(0, len(whole), step):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert kinds(four) != [], at
        path.write_bytes(whole[:at])
        assert kinds(four) == ["index_truncated"], at


def test_half_a_row_is_cut_off_by_the_next_writer(four: Path) -> None:
    put(four, [*lines(four), b'{"schema":"apr.ev'])
    add(four, RUNS[4])
    assert kinds(four) == [] and [row.id for row in Index(four).rows] == RUNS[:5]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"n": "4", "hash": "x"}', b"\xff"])
def test_a_damaged_head_is_named(four: Path, content: bytes) -> None:
    (four / "head.json").write_bytes(content)
    assert kinds(four) == ["head_damaged"]


def test_a_head_that_was_removed_or_put_back_is_named(four: Path) -> None:
    head = (four / "head.json").read_bytes()
    (four / "head.json").unlink()
    assert kinds(four) == ["index_row_added"]
    add_later = four / "later"
    add_later.mkdir()
    add(add_later, *RUNS[:4])
    add(add_later, *RUNS[4:])
    (add_later / "head.json").write_bytes(head)
    assert kinds(add_later) == ["index_row_added"]


def test_a_writer_killed_before_the_head_is_forgiven_only_for_its_own_run(four: Path) -> None:
    head = (four / "head.json").read_bytes()
    add(four, RUNS[4])
    (four / "head.json").write_bytes(head)
    assert kinds(four) == ["index_row_added"] and kinds(four, (RUNS[5],)) == ["index_row_added"]
    assert kinds(four, (RUNS[4],)) == []
    with _index.locked(four, for_writing=True):
        Index(four).append(RUNS[5], statement=b"x", written_at="2026-01-02T03:04:05Z", pending=(RUNS[4],))
    assert kinds(four) == [] and len(Index(four).rows) == 6


@pytest.mark.parametrize(
    "run", ["", "..", "../x", "20260102T030405Z-0a1b2c3d/x", "20260102T030405Z-0A1B2C3D", "x" * 300]
)
def test_what_is_no_id_becomes_no_path(run: str) -> None:
    with pytest.raises(UsageError, match="no id of a run"):
        _index.statement_path(Path("/x"), run)
