"""Digests, and promises that are kept or broken."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from apr.errors import ChecksumError
from apr.hub import _integrity
from apr.hub._integrity import Promise


def test_the_digest_of_a_folder_is_that_of_what_sha256sum_prints(tmp_path: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum")
    names = ["b.json", "a.safetensors"]
    for name in names:
        (tmp_path / name).write_text(name)
    printed = subprocess.run(["sha256sum", *sorted(names)], cwd=tmp_path, capture_output=True, check=True).stdout
    pairs = [(name, _integrity.sha256_of(tmp_path / name)) for name in names]
    assert _integrity.sha256_of_files(pairs) == hashlib.sha256(printed).hexdigest()


def test_the_git_name_of_a_file_is_gits(tmp_path: Path) -> None:
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    assert _integrity.git_sha1_of(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # printed by `git hash-object`


@pytest.mark.parametrize(
    "promise", [Promise(sha256="0" * 64), Promise(size_bytes=3), Promise(git_sha1="0" * 40), Promise("0" * 64, 2)]
)
def test_a_broken_promise_removes_the_bytes(promise: Promise, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"ab")
    with pytest.raises(ChecksumError):
        _integrity.verify(path, _integrity.sha256_of(path), promise, what="x")
    assert not path.exists()


def test_a_kept_promise_leaves_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"ab")
    sha256 = hashlib.sha256(b"ab").hexdigest()
    _integrity.verify(path, sha256, Promise(sha256, 2), what="x")
    assert path.exists()
