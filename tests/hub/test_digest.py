"""Digests are computed once, and again when a file has changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from apr.hub import digest


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("APR_HOME", str(tmp_path / "home"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights")
    return path


def test_a_digest_is_that_of_the_bytes(file: Path) -> None:
    assert digest.of_file(file) == hashlib.sha256(b"weights").hexdigest()


def test_a_digest_is_computed_once(file: Path) -> None:
    calls: list[int] = []

    def compute() -> str:
        calls.append(1)
        return "d"

    assert [digest.remembered([file], "tensors", compute) for _ in range(3)] == ["d"] * 3
    assert len(calls) == 1


def test_a_changed_file_is_hashed_again_even_at_the_same_size(file: Path) -> None:
    before = digest.of_file(file)
    file.write_bytes(b"Weights")
    os.utime(file, ns=(1, 1))
    assert digest.of_file(file) != before


def test_kinds_of_digest_do_not_meet(file: Path) -> None:
    assert digest.remembered([file], "a", lambda: "1") != digest.remembered([file], "b", lambda: "2")


def test_several_files_have_the_digest_of_what_sha256sum_prints(tmp_path: Path) -> None:
    names = ("b.safetensors", "a.safetensors")
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    listing = "".join(f"{hashlib.sha256(n.encode()).hexdigest()}  {n}\n" for n in sorted(names))
    assert digest.of_files(tmp_path / n for n in names) == hashlib.sha256(listing.encode()).hexdigest()


def test_a_memory_that_cannot_be_read_or_written_is_no_error(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = digest.of_file(file)
    for record in (tmp_path / "home" / "digests").iterdir():
        record.write_text("{")
    assert digest.of_file(file) == expected
    (tmp_path / "other").write_text("a file where a folder should be")
    monkeypatch.setenv("APR_HOME", str(tmp_path / "other"))
    assert digest.of_file(file) == expected


def test_a_digest_that_was_computed_meanwhile_is_not_computed_again(file: Path) -> None:
    assert digest.remember(file, "d") == "d" == digest.of_file(file)
    file.write_bytes(b"other weights")
    assert digest.of_file(file) == hashlib.sha256(b"other weights").hexdigest()
