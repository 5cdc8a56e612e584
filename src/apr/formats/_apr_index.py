"""The tensor index of `.apr` version 2, and where the tensors may lie.

A record: name length u16, name, type code u8, number of dimensions u8, dimensions u64, offset u64 from the start of the
data, size u64 without padding. Records are packed and sorted by the bytes of the name; the tensors themselves may lie
in any order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from apr.errors import (
    BadString,
    DuplicateName,
    ForeignFormat,
    FormatError,
    LimitExceeded,
    MisalignedTensor,
    OverlappingTensors,
    TruncatedFile,
    UnsortedIndex,
)
from apr.formats._apr_findings import Findings
from apr.formats._apr_header import ALIGNMENT, align
from apr.formats._base import MAX_DIMS

MAX_NAME_BYTES = 256
# no tensor has more; keeps shapes within what NumPy can index, also when one dimension is zero
MAX_ELEMENTS = 1 << 56

_PLACE = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the index.

    name:     decoded; raw_name its bytes as stored
    code:     the type
    shape:    row-major
    offset:   from the start of the data
    n_bytes:  without padding
    at:       where the record starts in the file
    """

    name: str
    raw_name: bytes
    code: int
    shape: tuple[int, ...]
    offset: int
    n_bytes: int
    at: int

    @property
    def end(self) -> int:
        """Where the tensor ends, from the start of the data."""
        return self.offset + self.n_bytes

    def pack(self) -> bytes:
        """The record's bytes."""
        head = struct.pack("<H", len(self.raw_name)) + self.raw_name + bytes((self.code, len(self.shape)))
        return head + struct.pack(f"<{len(self.shape)}Q", *self.shape) + _PLACE.pack(self.offset, self.n_bytes)


def parse_index(
    path: Path, section: memoryview, *, count: int, start: int, findings: Findings
) -> tuple[list[Record], int]:
    """The records in `section`, which starts at byte `start` of the file, and the byte after the last one.

    Raises TruncatedFile, BadString, LimitExceeded, ForeignFormat (an index in JSON).
    """
    if bytes(section[:2]) in (b"[{", b"[]"):
        message = (
            "the index is a JSON array: this is realizar's GGUF-to-F32 form, whose only tensor is the whole model "
            "as JSON; no other program reads it, convert the original GGUF file instead"
        )
        raise ForeignFormat(path, message, offset=start)
    records: list[Record] = []
    at = 0
    for number in range(count):
        record = _parse_record(section, at, start=start)
        if record is None:
            message = f"the index ends in the middle of record {number} of {count}; the file is probably cut short, get it again"
            findings.defect(TruncatedFile(path, message, offset=start + at))
            break
        _check_record(path, record, findings=findings)
        records.append(record)
        at += len(record.raw_name) + 4 + 8 * len(record.shape) + _PLACE.size
    return records, start + at


def check_names(path: Path, records: Sequence[Record], *, findings: Findings) -> None:
    """Refuse a name that occurs twice."""
    seen: set[bytes] = set()
    for record in records:
        if record.raw_name in seen:
            message = (
                f"tensor {record.name!r} occurs twice; readers differ in which one they take, write the file again"
            )
            findings.defect(DuplicateName(path, message, offset=record.at))
        seen.add(record.raw_name)


def check_order(path: Path, records: Sequence[Record], *, findings: Findings) -> None:
    """Refuse an index that is not sorted by the bytes of the names."""
    for before, record in pairwise(records):
        if record.raw_name < before.raw_name:
            message = f"tensor {record.name!r} stands after {before.name!r}; the index must be sorted by name"
            findings.defect(UnsortedIndex(path, message, offset=record.at))


def check_placement(path: Path, records: Sequence[Record], *, findings: Findings) -> int:
    """Refuse tensors that are not aligned or share bytes; return how many bytes between them belong to nothing."""
    gaps = 0
    before: Record | None = None
    for record in sorted((r for r in records if r.n_bytes), key=lambda r: r.offset):
        if record.offset % ALIGNMENT:
            message = f"tensor {record.name!r} starts {record.offset} bytes into the data, no multiple of {ALIGNMENT}"
            findings.defect(MisalignedTensor(path, message, offset=record.at))
        end = before.end if before else 0
        if before and record.offset < end:
            message = f"tensor {record.name!r} starts at data byte {record.offset}, inside {before.name!r}, which ends at {end}"
            findings.defect(OverlappingTensors(path, message, offset=record.at))
        gaps += max(0, record.offset - align(end))
        before = record if before is None or record.end > before.end else before
    return gaps


def _parse_record(section: memoryview, at: int, *, start: int) -> Record | None:
    """The record at `at`, or None where the section ends before it does."""
    if at + 2 > len(section):
        return None
    name_end = at + 2 + int.from_bytes(section[at : at + 2], "little")
    if name_end + 2 > len(section):
        return None
    code, n_dims = section[name_end], section[name_end + 1]
    dims_end = name_end + 2 + 8 * n_dims
    if dims_end + _PLACE.size > len(section):
        return None
    raw_name = bytes(section[at + 2 : name_end])
    shape = struct.unpack_from(f"<{n_dims}Q", section, name_end + 2)
    offset, n_bytes = _PLACE.unpack_from(section, dims_end)
    return Record(raw_name.decode("utf-8", "replace"), raw_name, code, shape, offset, n_bytes, start + at)


def _check_record(path: Path, record: Record, *, findings: Findings) -> None:
    for error in (name_error(path, record.raw_name, at=record.at), shape_error(path, record.shape, at=record.at)):
        if error:
            findings.defect(error)


def name_error(path: Path, name: bytes, *, at: int | None = None) -> FormatError | None:
    """What is wrong with a tensor's name, if anything."""
    if not name:
        return BadString(path, "a tensor has an empty name", offset=at)
    if len(name) > MAX_NAME_BYTES:
        message = f"a tensor's name has {len(name)} bytes, the limit is {MAX_NAME_BYTES}: {name[:40]!r}..."
        return BadString(path, message, offset=at)
    if b"\0" in name:
        return BadString(path, f"a tensor's name holds a NUL: {name!r}", offset=at)
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return BadString(path, f"a tensor's name is not UTF-8: {name!r}", offset=at)
    return None


def shape_error(path: Path, shape: tuple[int, ...], *, at: int | None = None) -> FormatError | None:
    """What is wrong with a tensor's shape, if anything."""
    if len(shape) > MAX_DIMS:
        return LimitExceeded(path, f"a tensor has {len(shape)} dimensions, the limit is {MAX_DIMS}", offset=at)
    elements = 1
    for size in shape:
        elements *= max(size, 1)
    if elements > MAX_ELEMENTS:
        return LimitExceeded(path, f"a tensor has shape {list(shape)}, the limit is {MAX_ELEMENTS} elements", offset=at)
    return None
