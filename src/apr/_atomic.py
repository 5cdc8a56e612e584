"""Write a file whole or not at all: temporary name, flush, fsync, rename, fsync of the folder.

A reader sees the old file or the new one, never half of one; a killed writer leaves only a temporary name that
starts with `.apr-tmp-`, which the next writer in that folder removes once it is older than a day.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from apr.errors import UsageError

PREFIX = ".apr-tmp-"
STALE_AFTER_S = 24 * 3600


@contextlib.contextmanager
def writing(path: Path, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; rename it to `path` when the block ends without an error.

    Raises UsageError if `path` is a folder, a symbolic link, or its folder does not exist; OSError as the system says.
    """
    if path.is_symlink():
        raise UsageError(
            f"{path} is a symbolic link; name the file that it points to, nothing is written through links"
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder; create it first")
    _remove_stale(path.parent)
    temporary = path.parent / f"{PREFIX}{secrets.token_hex(6)}-{path.name}"[:200]
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with writing(path) as file:
        file.write(content)


def append(path: Path, line: bytes) -> None:
    """Add a line to a file, which is made if it is not there; it is on the disk when this returns.

    A process that is killed meanwhile leaves all of it or a beginning, at the end.
    """
    is_new = not path.exists()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        while line:
            line = line[os.write(handle, line) :]
        os.fdatasync(handle)
    finally:
        os.close(handle)
    if is_new:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_stale(folder: Path) -> None:
    oldest = time.time() - STALE_AFTER_S
    for leftover in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if leftover.stat().st_mtime < oldest:
                leftover.unlink()
