"""SHA-256 beside other work: hashing lets go of the interpreter, so that a second core does it."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

_AT_ONCE = 1 << 20


class Digests:
    """What tensors' bytes are known by until they are read back. One is hashed while the next is made."""

    def __init__(self) -> None:
        self._found: dict[str, Future[str]] = {}
        self._executor = ThreadPoolExecutor(1)
        self._last: Future[str] | None = None

    def add(self, name: str, raw: np.ndarray) -> None:
        """Begin to hash a tensor; waits for the one before, so that no more than two are in memory."""
        if self._last is not None:
            self._last.result()
        self._last = self._found[name] = self._executor.submit(digest, raw)

    def all(self) -> dict[str, str]:
        """SHA-256 by name."""
        return {name: future.result() for name, future in self._found.items()}


def digest(raw: np.ndarray) -> str:
    """SHA-256 of a tensor's bytes."""
    return hashlib.sha256(np.ascontiguousarray(raw).data).hexdigest()


@contextlib.contextmanager
def hashing(path: Path) -> Iterator[Future[str]]:
    """The SHA-256 of a file, computed meanwhile; given up where the block is left by an error."""
    stopped = threading.Event()

    def compute() -> str:
        found = hashlib.sha256()
        with path.open("rb") as file:
            while (piece := file.read(_AT_ONCE)) and not stopped.is_set():
                found.update(piece)
        return found.hexdigest()

    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(compute)
        try:
            yield future
            future.result()
        finally:
            stopped.set()
