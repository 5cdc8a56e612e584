"""One file over HTTPS into a `.part` file: resumed after a cut, counted, and checked against its promise.

A resumed transfer never joins halves of two versions: either a digest names the content, or the server's ETag
(kept beside the `.part` file, sent as If-Range) does; with neither, an interrupted transfer starts over.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from apr.errors import ChecksumError, HubError
from apr.hub import _integrity
from apr.hub._http import STALL_S, RangeRefused, Remote, opened
from apr.hub._integrity import CHUNK_BYTES, Promise
from apr.hub._progress import Progress

logger = logging.getLogger(__name__)

_ATTEMPTS_WITHOUT_PROGRESS = 3
_HTTP_PARTIAL = 206
# Room that is left free on the disk: a full disk breaks more than a download.
_SPARE_BYTES = 64 << 20


class _Cut(Exception):
    """The transfer ended before the file did."""


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a response begins in the file, and how long the whole file is, if the server says so."""

    offset: int
    total: int | None


def part_of(folder: Path, *, identity: str) -> Path:
    """The path of the partial file for a content or URL: the same in each run, and not made of its name."""
    return folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.part"


def require_space(folder: Path, n_bytes: int) -> None:
    """Raises HubError if the disk of `folder` cannot take n_bytes more."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes + _SPARE_BYTES:
        raise HubError(
            f"{folder}: {n_bytes / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free; make room (`apr list` shows "
            "what is cached, `apr rm` removes it), or set APR_HOME to a folder on another disk"
        )


def download(remote: Remote, folder: Path, promise: Promise, *, what: str, progress: Progress) -> tuple[Path, str]:
    """Fetch a file into `folder`, going on where an earlier run stopped.

    what:    names the file to the user
    Returns  (path of the complete, verified file; its SHA-256).
    Raises   ChecksumError (and removes the bytes), OfflineError, HubError.
    """
    part = part_of(folder, identity=promise.sha256 or promise.git_sha1 or remote.url)
    failures, here = 0, _size(part)
    while True:
        try:
            sha256 = _attempt(remote, part, promise, what, progress)
            break
        except RangeRefused:
            part.unlink(missing_ok=True)
            failures += 1
        except _Cut as cut:
            failures = 0 if _size(part) > here else failures + 1
            logger.info("%s: %s; going on from byte %d", what, cut, _size(part))
        here = _size(part)
        if failures >= _ATTEMPTS_WITHOUT_PROGRESS:
            raise HubError(
                f"{what}: {remote.host} keeps cutting the transfer; {here} bytes are here, run it again to go on"
            )
    _etag_file(part).unlink(missing_ok=True)
    _integrity.verify(part, sha256, promise, what=what)
    return part, sha256


def _attempt(remote: Remote, part: Path, promise: Promise, what: str, progress: Progress) -> str:
    """Request what is missing, append it, and return the SHA-256 of the whole file. Raises _Cut if bytes still miss."""
    asked = _resume_headers(part, promise)
    if promise.size_bytes is not None and promise.names_content and _size(part) == promise.size_bytes:
        return _integrity.sha256_of(part)
    with opened(remote, headers=asked, timeout_s=STALL_S) as response:
        start = _start_of(response, asked=_size(part) if asked else 0)
        if promise.size_bytes is not None and start.total not in {None, promise.size_bytes}:
            part.unlink(missing_ok=True)
            raise ChecksumError(
                f"{what}: {remote.host} announces {start.total} bytes, the {promise.by} promised {promise.size_bytes}"
            )
        require_space(part.parent, (start.total or 0) - start.offset)
        _remember_etag(part, response.headers.get("ETag"), promise)
        progress.start(what, start.total)
        try:
            return _append(response, part, start, promise, what, progress)
        finally:
            progress.finish()


def _append(
    response: http.client.HTTPResponse, part: Path, start: _Start, promise: Promise, what: str, progress: Progress
) -> str:
    limit = promise.size_bytes if promise.size_bytes is not None else start.total
    hasher, here = hashlib.sha256(), start.offset
    with part.open("r+b" if start.offset else "wb") as file:
        if start.offset:
            for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
                hasher.update(chunk)
            progress.advance(start.offset)
        while chunk := _read(response):
            here += len(chunk)
            if limit is not None and here > limit:
                part.unlink()
                raise ChecksumError(
                    f"{what}: more than the {limit} bytes that were promised came; the bytes were removed"
                )
            try:
                file.write(chunk)
            except OSError as exc:
                raise HubError(
                    f"{part}: cannot write ({exc.strerror}); make room, then run it again to go on from there"
                ) from exc
            hasher.update(chunk)
            progress.advance(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if limit is not None and here < limit:
        raise _Cut(f"the transfer ended after {here} of {limit} bytes")
    return hasher.hexdigest()


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as exc:
        # What came with the failing read is asked for again: the bytes on disk are those that were written.
        raise _Cut(str(exc) or type(exc).__name__) from exc


def _start_of(response: http.client.HTTPResponse, *, asked: int) -> _Start:
    """asked: the offset that was requested, 0 for a plain request. A server that ignores it sends the whole file."""
    length = response.headers.get("Content-Length", "")
    n_bytes = int(length) if length.isdigit() else None
    if response.status != _HTTP_PARTIAL:
        return _Start(offset=0, total=n_bytes)
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != asked:
        raise RangeRefused(f"byte {asked} was asked for, the answer is {response.headers.get('Content-Range')!r}")
    total = int(found[2]) if found[2] != "*" else None
    return _Start(offset=asked, total=total if total is not None or n_bytes is None else asked + n_bytes)


def _resume_headers(part: Path, promise: Promise) -> dict[str, str]:
    """What asks for the missing bytes; removes a partial file that cannot be continued."""
    size = _size(part)
    etag = _etag_file(part)
    known = etag.read_text(encoding="latin-1") if etag.is_file() else ""
    if size and promise.names_content and (promise.size_bytes is None or size <= promise.size_bytes):
        return {"Range": f"bytes={size}-"}
    if size and known and not promise.names_content:
        return {"Range": f"bytes={size}-", "If-Range": known}
    part.unlink(missing_ok=True)
    return {}


def _remember_etag(part: Path, etag: str | None, promise: Promise) -> None:
    if promise.names_content:
        return
    if etag and not etag.startswith("W/"):  # a weak one does not promise equal bytes: RFC 9110, 8.8.1
        _etag_file(part).write_text(etag, encoding="latin-1")
    else:
        _etag_file(part).unlink(missing_ok=True)


def _etag_file(part: Path) -> Path:
    return part.with_suffix(".etag")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
