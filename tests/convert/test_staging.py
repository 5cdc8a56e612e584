"""Nothing is left behind: not by an error, not by an interruption, not by a full disk."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.convert import _items, _readback, convert
from apr.errors import ConversionError
from convert.conversion_runs import ENDING, leftovers


def failing(error: BaseException, *, after: int) -> Callable[..., np.ndarray]:
    original, calls = _items.encoded, [0]

    def encoded(*arguments: Any) -> np.ndarray:
        calls[0] += 1
        if calls[0] > after:
            raise error
        return original(*arguments)

    return encoded


@pytest.mark.parametrize("to", ["m.gguf", "m.apr", "m", "m.safetensors"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()], ids=["interrupt", "memory"])
def test_an_interruption_leaves_nothing(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, to: str, error: BaseException
) -> None:
    source = tiny.write(tmp_path / "source", "apr" if to == "m.gguf" else "gguf")
    monkeypatch.setattr(_items, "encoded", failing(error, after=3))
    with pytest.raises(type(error)):
        convert(source, target / to)
    assert leftovers(target) == []


def test_a_full_disk_is_an_error_of_the_conversion_and_leaves_nothing(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_items, "encoded", failing(OSError(errno.ENOSPC, "No space left on device"), after=3))
    with pytest.raises(ConversionError, match="No space left on device; nothing was left behind"):
        convert(tiny.write(tmp_path / "source", "gguf"), target / "m.apr")
    assert leftovers(target) == []


def test_a_disk_without_room_is_told_before_writing(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 999, 1))
    with pytest.raises(ConversionError, match="make room"):
        convert(tiny.write(tmp_path / "source", "gguf"), target / "m.apr")


@pytest.mark.parametrize("to", ["gguf", "apr", "safetensors"])
def test_a_difference_keeps_what_was_there(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    path = target / f"m{ENDING[to]}"
    origin = "apr" if to == "gguf" else "gguf"
    convert(tiny.write(tmp_path / "old", origin), path)
    before = {p: p.read_bytes() for p in target.rglob("*") if p.is_file()}

    def refuse(*arguments: Any, **options: Any) -> None:
        raise ConversionError("planted")

    monkeypatch.setattr(_readback, "check_tensors", refuse)
    with pytest.raises(ConversionError, match="planted"):
        convert(tiny.write(tmp_path / "new", origin, tiny.config("qwen3")), path, overwrite="replace")
    assert {p: p.read_bytes() for p in target.rglob("*") if p.is_file()} == before


def test_a_source_that_changes_meanwhile_is_noticed(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny.write(tmp_path / "source", "gguf")
    original = _readback.check

    def touch(*arguments: Any, **options: Any) -> Any:
        os.utime(source, ns=(1, 1))
        return original(*arguments, **options)

    monkeypatch.setattr(_readback, "check", touch)
    with pytest.raises(ConversionError, match="changed while it was converted"):
        convert(source, target / "m.apr")
    assert leftovers(target) == []


def test_a_target_that_appears_meanwhile_is_not_overwritten(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = _readback.check

    def rival(*arguments: Any, **options: Any) -> Any:
        (target / "m.apr").write_bytes(b"first")
        return original(*arguments, **options)

    monkeypatch.setattr(_readback, "check", rival)
    with pytest.raises(Exception, match="exists"):
        convert(tiny.write(tmp_path / "source", "gguf"), target / "m.apr")
    assert (target / "m.apr").read_bytes() == b"first" and leftovers(target) == ["m.apr"]


def test_temporary_folders_of_killed_writers_are_removed_after_a_day(tmp_path: Path, target: Path) -> None:
    for name, age_s in ((".apr-tmp-old", 25 * 3600), (".apr-tmp-new", 3600)):
        (target / name).mkdir()
        (target / name / "m.gguf").write_bytes(b"half")
        os.utime(target / name, (time.time() - age_s,) * 2)
    convert(tiny.write(tmp_path / "source", "gguf"), target / "m.apr")
    assert leftovers(target) == [".apr-tmp-new", "m.apr"]
