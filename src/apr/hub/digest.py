"""SHA-256 of files, computed once: a digest is remembered until the file's size, time or inode changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from apr.hub._environment import cache_dir
from apr.hub._integrity import sha256_of, sha256_of_files

logger = logging.getLogger(__name__)


def of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    return remembered([path], "sha256", lambda: sha256_of(path))


def remember(path: Path, sha256: str) -> str:
    """The SHA-256 of a file that was computed while it was written; it is not computed again."""
    return remembered([path], "sha256", lambda: sha256)


def of_files(paths: Iterable[Path]) -> str:
    """SHA-256 of one file; for several, the SHA-256 of what `sha256sum` prints for them, sorted by name."""
    files = sorted(paths)
    if len(files) == 1:
        return of_file(files[0])
    return sha256_of_files((path.name, of_file(path)) for path in files)


def remembered(paths: Iterable[Path], kind: str, compute: Callable[[], str]) -> str:
    """A digest of some files, computed unless it was before and none of them has changed since.

    kind:  what the digest is of; digests of different kinds do not meet
    A memory that cannot be read or written costs time and never an error.
    """
    state = [[str(path.resolve()), *_stamp(path)] for path in sorted(paths)]
    store = (
        cache_dir().parent
        / "digests"
        / f"{hashlib.sha256(json.dumps([kind, [s[0] for s in state]]).encode()).hexdigest()}.json"
    )
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads(store.read_text(encoding="utf-8"))
        if record["state"] == state:
            return str(record["digest"])
    digest = compute()
    from apr.hub import _atomic_json

    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        _atomic_json.write(store, {"kind": kind, "state": state, "digest": digest})
    except OSError as exc:
        logger.debug("digest not remembered: %s", exc)
    return digest


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]
