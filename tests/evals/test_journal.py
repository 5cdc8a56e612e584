"""What is acknowledged is on the disk once, whatever kills the writer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apr.errors import FormatError, UsageError
from apr.evals._journal import Journal

SETTINGS = {"seed": 0, "stop": ("a", "b"), "path": Path("x")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "journal.jsonl"


def test_what_is_added_is_there_when_it_is_opened_again(path: Path) -> None:
    with Journal(path, SETTINGS) as journal:
        journal.add("answer", "a", text="x", figure=float("nan"))
        assert not journal.resumed("answer", "a")
    with Journal(path, SETTINGS) as journal:
        assert journal.get("answer", "a") == {"kind": "answer", "id": "a", "text": "x", "figure": None}
        assert journal.resumed("answer", "a") and journal.get("verdict", "a") is None and journal.was_cut == 0


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_half_a_last_line_is_removed_and_said(path: Path, cut: int) -> None:
    with Journal(path, SETTINGS) as journal:
        journal.add("answer", "a", text="x")
        journal.add("answer", "b", text="y" * 40)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with Journal(path, SETTINGS) as journal:
        assert journal.was_cut > 0 and journal.get("answer", "b") is None and journal.get("answer", "a") is not None
        journal.add("answer", "b", text="y" * 40)
    assert path.read_bytes() == whole


def test_half_a_header_is_begun_again(path: Path) -> None:
    with Journal(path, SETTINGS):
        pass
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    with Journal(path, SETTINGS) as journal:
        assert journal.was_cut == 20
    assert path.read_bytes() == whole


def test_other_settings_are_refused_by_name(path: Path) -> None:
    with Journal(path, SETTINGS):
        pass
    with pytest.raises(UsageError, match="begun with seed = 0, and now it is 1"):
        Journal(path, SETTINGS | {"seed": 1})
    with pytest.raises(UsageError, match="begun with new = null"):
        Journal(path, SETTINGS | {"new": 1})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"kind":"answer","id":"a"}\n', "a second time"),
        (b"{broken\n", "no JSON"),
        (b"[]\n", "no entry"),
        (b"\n", "no JSON"),
    ],
)
def test_damage_before_the_end_is_refused(path: Path, line: bytes, said: str) -> None:
    with Journal(path, SETTINGS) as journal:
        journal.add("answer", "a", text="x")
    with path.open("ab") as file:
        file.write(line)
    with pytest.raises(FormatError, match=said):
        Journal(path, SETTINGS)


def test_a_file_that_is_no_journal_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"kind": "other"}\n')
    with pytest.raises(FormatError, match="schema None found"):
        Journal(path, SETTINGS)
    assert path.read_text() == '{"kind": "other"}\n'


def test_two_writers_at_a_time_are_one_too_many(path: Path) -> None:
    with Journal(path, SETTINGS), pytest.raises(UsageError, match="another run is writing it"):
        Journal(path, SETTINGS)
    Journal(path, SETTINGS).close()


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="another --out"):
        Journal(tmp_path, SETTINGS)


WRITER = """
import sys
from pathlib import Path
from apr.evals._journal import Journal
with Journal(Path(sys.argv[1]), {"seed": 0}) as journal:
    i = 0
    while True:
        if journal.get("answer", str(i)) is None:
            journal.add("answer", str(i), text="x" * (i % 997))
            print(i, flush=True)
        i += 1
"""


def test_a_killed_writer_loses_nothing_that_it_acknowledged(path: Path) -> None:
    said: list[int] = []
    for round_ in range(6):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(8 + 5 * round_):
                said.append(int(writer.stdout.readline()))
            os.kill(writer.pid, signal.SIGKILL)
            said += [int(line) for line in writer.stdout.read().split("\n")[:-1] if line]
    with Journal(path, {"seed": 0}):
        pass
    kept = [json.loads(line)["id"] for line in path.read_text().splitlines()[1:]]
    assert len(kept) == len(set(kept)) and {str(i) for i in said} <= set(kept)
    assert kept == [str(i) for i in range(len(kept))]
