"""What was promised about some bytes, and whether they keep it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from apr.errors import ChecksumError

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Promise:
    """What somebody says about a file before it is fetched.

    sha256:      64 lower-case hexadecimal digits, or None
    size_bytes:  the exact length, or None
    by:          who says so: "alias", "hub", "index", "reference" (a digest in the URL itself) or "none"
    git_sha1:    the name that git gives the content, where a hub promises nothing better (small text files)
    """

    sha256: str | None = None
    size_bytes: int | None = None
    by: str = "none"
    git_sha1: str | None = None

    @property
    def names_content(self) -> bool:
        """Whether a digest says which bytes are meant."""
        return self.sha256 is not None or self.git_sha1 is not None


NOTHING = Promise()


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A verified file on its way into the cache.

    name:      relative to the model's folder; one plain name
    borrowed:  the file belongs to somebody else (the hub's own cache): link or copy it, do not move it
    """

    name: str
    path: Path
    sha256: str
    size_bytes: int
    borrowed: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a source delivered. is_folder: the model is the folder of `files`, even if there is only one."""

    files: tuple[FetchedFile, ...]
    promised_by: str
    is_folder: bool = False


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_files(files: Iterable[tuple[str, str]]) -> str:
    """One SHA-256 for (name, sha256) pairs: that of the text `sha256sum` prints for them, sorted by name."""
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(files))
    return hashlib.sha256(listing.encode()).hexdigest()


def git_sha1_of(path: Path) -> str:
    """The name that git gives a file's content (a blob id). For small files: they are read whole."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def verify(path: Path, sha256: str, promise: Promise, *, what: str) -> None:
    """Compare a complete file with its promise; remove it if it differs.

    sha256:  computed by the caller, over all bytes at `path`
    Raises   ChecksumError, naming what was expected and found.
    """
    expected, found = promise.sha256, sha256
    if expected is None and promise.git_sha1 is not None:
        expected, found = promise.git_sha1, git_sha1_of(path)
    size = path.stat().st_size
    if promise.size_bytes is not None and size != promise.size_bytes:
        path.unlink()
        raise ChecksumError(
            f"{what}: {size} bytes came, {promise.size_bytes} were promised by the {promise.by}; the bytes were removed"
        )
    if expected is None:
        logger.warning("%s: unverified, no digest was promised; its SHA-256 is %s", what, sha256)
    elif found != expected:
        path.unlink()
        raise ChecksumError(
            f"{what}: digest {found} found, {expected} expected (promised by the {promise.by}); the bytes were "
            "removed; the file has changed at its source, or was changed on the way"
        )
