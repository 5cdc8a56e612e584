"""Hashes computed beside other work: hashlib over the same bytes, errors, and what is given up."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import pytest

from apr.convert._hashing import Digests, digest, hashing


def test_the_digests_of_tensors_are_those_of_their_bytes() -> None:
    tensors = {f"t{i}": np.random.default_rng(i).integers(0, 256, 1000 * i, dtype=np.uint8) for i in range(5)}
    digests = Digests()
    for name, raw in tensors.items():
        digests.add(name, raw)
    assert digests.all() == {name: hashlib.sha256(raw.tobytes()).hexdigest() for name, raw in tensors.items()}
    turned = np.arange(6, dtype=np.uint8).reshape(2, 3).T
    assert digest(turned) == hashlib.sha256(turned.tobytes()).hexdigest()


def test_the_hash_of_a_file_is_there_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 20_000)
    with hashing(path) as found:
        pass
    assert found.done() and found.result() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_cannot_be_read_is_an_error_of_the_block(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), hashing(tmp_path / "none"):
        pass


def test_an_error_in_the_block_gives_the_hash_up(tmp_path: Path) -> None:
    """Ctrl-C does not wait for a file of many gigabytes."""
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(64 << 30)  # a hole: nothing is on the disk, and reading it takes a minute
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), hashing(path):
        raise KeyboardInterrupt
    assert time.monotonic() - started < 10
