"""The models that are here: one folder and one record each, re-hashed whenever a file's size, time or inode changed.

    models/<key>/<file>              the bytes, under a name a user may read
    models/.entries/<key>.json       what they are; its modification time says when they were last used
    models/.partial/  models/.locks/ interrupted transfers; one lock a model

A folder without a record is not a model: it is what a killed process left, and the next pull replaces it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from apr.errors import HubError
from apr.hub import _environment, _integrity, _reference
from apr.hub._integrity import Fetched, FetchedFile

logger = logging.getLogger(__name__)

SCHEMA = "apr.cached-model/1"
_ABANDONED_AFTER_S = 14 * 24 * 3600


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model in the cache.

    path:         a file, or a folder of several
    sha256:       of the file; of a folder, the SHA-256 of what `sha256sum` prints for its files, sorted by name
    promised_by:  who promised that digest: "alias", "hub", "index", "reference"; "none" for bytes nobody vouched for
    pulled_at, last_used:  ISO 8601, UTC
    """

    schema: str
    reference: str
    path: Path
    sha256: str
    size_bytes: int
    source: str
    pulled_at: str
    last_used: str
    promised_by: str


def partial_dir() -> Path:
    """Where transfers in progress lie; made if it is not there, cleared of what nobody came back for."""
    folder = _made(".partial")
    oldest = time.time() - _ABANDONED_AFTER_S
    for path in folder.glob("*.part"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
    return folder


@contextlib.contextmanager
def locked(key: str) -> Iterator[None]:
    """Hold the lock of a model; wait while another process or thread fetches it."""
    from filelock import FileLock

    with FileLock(_made(".locks") / f"{key}.lock"):
        yield


def listed() -> list[CachedModel]:
    """Every model in the cache, by reference. Nothing is re-hashed."""
    records = (_read(path) for path in sorted((_environment.cache_dir() / ".entries").glob("*.json")))
    return sorted((_model(record) for record in records if record is not None), key=lambda model: model.reference)


def lookup(key: str) -> CachedModel | None:
    """The model of a key if it is here and its bytes are what they were; a damaged one, with a warning, is not."""
    record = _read(_entry_path(key))
    if record is None:
        return None
    if not _is_intact(record):
        logger.warning(
            "%s: the cached bytes are no longer those with SHA-256 %s; they are fetched again",
            record.reference,
            record.sha256,
        )
        return None
    with contextlib.suppress(OSError):  # a cache that one may only read can be used
        os.utime(_entry_path(key))
    return _model(record)


def store(key: str, reference: str, fetched: Fetched, *, source: str, file_name: str | None = None) -> CachedModel:
    """Move verified files into the cache; the record is written last.

    file_name:  the name of a single file; None: the name that its source gave it
    """
    root = _made("")
    _remove_folder(root / ".partial" / f"{key}.folder")
    staged = _made(f".partial/{key}.folder")
    files = {}
    for file in fetched.files:
        name = file_name if file_name is not None and not fetched.is_folder else file.name
        target = _reference.inside(staged, name)
        _place(file, target)
        files[name] = {"sha256": file.sha256, "size_bytes": file.size_bytes, "stamp": _stamp(target)}
    folder = _reference.inside(root, key)
    _remove_folder(folder)
    staged.replace(folder)
    single = None if fetched.is_folder else next(iter(files))
    record = {
        "schema": SCHEMA,
        "reference": reference,
        "source": source,
        "promised_by": fetched.promised_by,
        "pulled_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "single": single,
        "files": files,
    }
    _made(".entries")
    from apr.hub import _atomic_json  # what writes is loaded by who writes: looking a model up is on everybody's way

    _atomic_json.write(_entry_path(key), record)
    stored = _read(_entry_path(key))
    assert stored is not None  # it was written above, under the lock
    return _model(stored)


def discard(key: str) -> None:
    """Remove a model, its record first: a record never names bytes that are gone."""
    _entry_path(key).unlink(missing_ok=True)
    _remove_folder(_reference.inside(_environment.cache_dir(), key))


@dataclass(frozen=True, slots=True)
class _Record:
    key: str
    reference: str
    source: str
    promised_by: str
    pulled_at: str
    single: str | None
    files: Mapping[str, Mapping[str, object]]

    @property
    def sha256(self) -> str:
        pairs = [(name, str(file["sha256"])) for name, file in self.files.items()]
        return pairs[0][1] if self.single is not None else _integrity.sha256_of_files(pairs)

    @property
    def folder(self) -> Path:
        return _reference.inside(_environment.cache_dir(), self.key)


def _read(path: Path) -> _Record | None:
    """A record, or None if there is none that can be used; an unreadable one counts as not there."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA or not found["files"]:
            return None
        for name, file in found["files"].items():
            _reference.inside(path.parent, name)
            str(file["sha256"]), int(file["size_bytes"]), list(file["stamp"])
        return _Record(
            key=path.stem,
            reference=str(found["reference"]),
            source=str(found["source"]),
            promised_by=str(found["promised_by"]),
            pulled_at=str(found["pulled_at"]),
            single=found["single"],
            files=found["files"],
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, HubError) as exc:
        logger.warning("%s: not a record of a model (%s); the model counts as not cached", path, exc)
        return None


def _model(record: _Record) -> CachedModel:
    used = _entry_path(record.key).stat().st_mtime
    return CachedModel(
        schema=SCHEMA,
        reference=record.reference,
        path=record.folder / record.single if record.single is not None else record.folder,
        sha256=record.sha256,
        size_bytes=sum(int(str(file["size_bytes"])) for file in record.files.values()),
        source=record.source,
        pulled_at=record.pulled_at,
        last_used=datetime.fromtimestamp(used, UTC).isoformat(timespec="seconds"),
        promised_by=record.promised_by,
    )


def _is_intact(record: _Record) -> bool:
    """Whether all files are what they were; hashes those whose size, time or inode changed, and notes the new stamp."""
    stamps = {}
    for name, file in record.files.items():
        path = _reference.inside(record.folder, name)
        if not path.is_file():
            return False
        stamps[name] = _stamp(path)
        if stamps[name] != file["stamp"] and _integrity.sha256_of(path) != file["sha256"]:
            return False
    if any(stamps[name] != file["stamp"] for name, file in record.files.items()):
        _note_stamps(record, stamps)
    return True


def _note_stamps(record: _Record, stamps: Mapping[str, list[int]]) -> None:
    path = _entry_path(record.key)
    with contextlib.suppress(OSError, ValueError, KeyError):  # a cache that one may only read can be used
        content = json.loads(path.read_text(encoding="utf-8"))
        for name, stamp in stamps.items():
            content["files"][name]["stamp"] = stamp
        from apr.hub import _atomic_json

        _atomic_json.write(path, content)


def _place(file: FetchedFile, target: Path) -> None:
    target.unlink(missing_ok=True)
    if not file.borrowed:
        file.path.replace(target)
        return
    try:
        target.hardlink_to(file.path)
    except OSError:  # another disk, or a file system without links
        import shutil

        shutil.copyfile(file.path, target)


def _stamp(path: Path) -> list[int]:
    """What changes when a file is written: size, modification time in ns, inode."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _entry_path(key: str) -> Path:
    return _environment.cache_dir() / ".entries" / f"{key}.json"


def _made(name: str) -> Path:
    folder = _environment.cache_dir() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise HubError(
            f"{folder}: cannot be made ({exc.strerror}); set APR_HOME to a folder that you may write"
        ) from exc
    return folder


def _remove_folder(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        import shutil

        shutil.rmtree(folder)
