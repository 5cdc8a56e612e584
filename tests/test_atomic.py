"""Files are written whole or not at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from apr import _atomic
from apr._atomic import PREFIX, STALE_AFTER_S, sync_folder, write_bytes, writing
from apr.errors import UsageError


def test_a_file_is_written_and_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    write_bytes(target, b"first")
    write_bytes(target, b"second")
    assert target.read_bytes() == b"second" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_the_mode_is_the_one_asked_for(mode: int, tmp_path: Path) -> None:
    with writing(tmp_path / "x", mode=mode) as file:
        file.write(b"x")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_exception_leaves_the_old_file_and_nothing_else(error: type[BaseException], tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    target.write_bytes(b"old")
    with pytest.raises(error), writing(target) as file:
        file.write(b"half of it")
        raise error
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_nobody_sees_the_name_before_the_end(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    with writing(target) as file:
        file.write(b"x" * 100_000)
        file.flush()
        assert not target.exists()
        (temporary,) = tmp_path.iterdir()
        assert temporary.name.startswith(PREFIX) and stat.S_IMODE(temporary.stat().st_mode) == 0o600
    assert target.stat().st_size == 100_000


def test_links_and_folders_are_refused_and_untouched(tmp_path: Path) -> None:
    real, link, folder = tmp_path / "real", tmp_path / "link", tmp_path / "folder"
    real.write_bytes(b"old")
    link.symlink_to(real)
    folder.mkdir()
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nothing")
    for target, reason in (
        (link, "symbolic link"),
        (dangling, "symbolic link"),
        (folder, "is a folder"),
        (real / "x", "not a folder"),
    ):
        with pytest.raises(UsageError, match=reason):
            write_bytes(target, b"new")
    with pytest.raises(UsageError, match="create it first"):
        write_bytes(tmp_path / "missing" / "x", b"new")
    assert real.read_bytes() == b"old" and not (tmp_path / "nothing").exists() and list(folder.iterdir()) == []


def test_leftovers_older_than_a_day_are_removed_and_fresh_ones_kept(tmp_path: Path) -> None:
    stale, fresh, other = tmp_path / f"{PREFIX}aa-x", tmp_path / f"{PREFIX}bb-x", tmp_path / "apr-tmp-cc-x"
    for file in (stale, fresh, other):
        file.write_bytes(b"half")
    now = fresh.stat().st_mtime
    for file, age in ((stale, STALE_AFTER_S + 60), (fresh, STALE_AFTER_S - 3600), (other, 10 * STALE_AFTER_S)):
        os.utime(file, (now - age, now - age))
    write_bytes(tmp_path / "x", b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([fresh.name, other.name, "x"])


def test_a_long_name_is_no_obstacle(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 250)
    write_bytes(target, b"x")
    assert target.read_bytes() == b"x"


KILLED = """
import sys
from pathlib import Path
from apr._atomic import writing
with writing(Path(sys.argv[1])) as file:
    file.write(b"half of it")
    file.flush()
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_killed_writer_leaves_only_a_temporary_name(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    target.write_bytes(b"old")
    command = [sys.executable, "-c", KILLED, str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    (leftover,) = set(tmp_path.iterdir()) - {target}
    assert leftover.name.startswith(PREFIX) and leftover.read_bytes() == b"half of it"


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    sync_folder(tmp_path / "nothing")


def test_a_line_is_added_whole_to_a_file_that_may_not_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:2]))  # as a full pipe or a signal would
    for line in (b"first\n", b"second\n"):
        _atomic.append(tmp_path / "lines", line)
    assert (tmp_path / "lines").read_bytes() == b"first\nsecond\n"
