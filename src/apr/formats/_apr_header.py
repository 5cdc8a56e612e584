"""The 64-byte header of `.apr` version 2: fields, flags, checksum, and where the sections may lie.

    0        header
    64       JSON metadata, zero padding to a multiple of 64
    index    packed records, zero padding to a multiple of 64
    data     tensors, each followed by zero padding to a multiple of 64
    end - 4  CRC32 of every byte before it

Three writers call their output version 2; `Dialect` tells them apart. All integers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apr.errors import (
    BadOffset,
    ChecksumMismatch,
    ForbiddenFlag,
    FormatError,
    LimitExceeded,
    MisalignedTensor,
    TruncatedFile,
    UnsupportedVersion,
)
from apr.formats._apr_findings import Findings
from apr.formats._json import MAX_BYTES

# aprender: canonical. realizar-q4k: its GGUF converter, no footer, GGML type numbers. realizar-serializer: its model
# serialiser, no header checksum, no footer, index neither sorted nor padded.
Dialect = Literal["aprender", "realizar-q4k", "realizar-serializer"]

MAGIC = b"APR\0"
FIRST_MAGIC = b"APR2"  # version 2 as written from 2025-12-22 to 2026-01-18
HEADER_BYTES = 64
ALIGNMENT = 64
FOOTER_BYTES = 4
MIN_RECORD_BYTES = 21  # length, a name of one byte, type, number of dimensions, offset, size

LZ4, ZSTD, ENCRYPTED, SIGNED, SHARDED, QUANTIZED = 0x0001, 0x0002, 0x0004, 0x0008, 0x0010, 0x0020
HAS_VOCABULARY, ROW_MAJOR, COLUMN_MAJOR = 0x0200, 0x0400, 0x0800
UNDEFINED = 0xF000

_LAYOUT = struct.Struct("<4sBBHIQIQQI20s")
_FORBIDDEN = {
    LZ4: "says that it is compressed with LZ4; no writer compresses version 2 and readers disagree on what it would mean",
    ZSTD: "says that it is compressed with Zstandard; no writer compresses version 2 and readers disagree on what it"
    " would mean",
    ENCRYPTED: "says that it is encrypted; version 2 defines no encryption, so nothing can decrypt it",
    COLUMN_MAJOR: "says that its tensors are column-major; only row-major files are read, write it again row-major",
}


@dataclass(frozen=True, slots=True)
class Header:
    """The fields as the file has them. Offsets and sizes in bytes; `data_offset` is where tensor offsets count from."""

    magic: bytes
    version: tuple[int, int]
    flags: int
    n_tensors: int
    metadata_offset: int
    metadata_bytes: int
    index_offset: int
    data_offset: int
    checksum: int
    reserved: bytes = bytes(20)

    @classmethod
    def unpack(cls, path: Path, raw: bytes) -> Header:
        """The header in the first 64 bytes of a file. Raises TruncatedFile if there are fewer."""
        if len(raw) < HEADER_BYTES:
            message = f"the file ends after {len(raw)} bytes, the header alone has {HEADER_BYTES}; get the file again"
            raise TruncatedFile(path, message, offset=len(raw))
        magic, major, minor, *fields = _LAYOUT.unpack(raw[:HEADER_BYTES])
        return cls(magic, (major, minor), *fields)

    def pack(self) -> bytes:
        """The 64 bytes, with `checksum` as it is."""
        return _LAYOUT.pack(
            self.magic,
            *self.version,
            self.flags,
            self.n_tensors,
            self.metadata_offset,
            self.metadata_bytes,
            self.index_offset,
            self.data_offset,
            self.checksum,
            self.reserved,
        )

    @property
    def computed_checksum(self) -> int:
        """CRC32 of the header without its checksum field: bytes 0..39 and 44..63."""
        raw = self.pack()
        return zlib.crc32(raw[44:], zlib.crc32(raw[:40]))

    @property
    def is_sound(self) -> bool:
        """Whether the stored checksum is the computed one."""
        return self.checksum == self.computed_checksum

    @property
    def may_be_serializer(self) -> bool:
        """Whether this can be the header of realizar's serialiser, which leaves flags and checksum zero.

        The reader asks, besides, that the index ends exactly where the data starts.
        """
        in_order = HEADER_BYTES + self.metadata_bytes <= self.index_offset <= self.data_offset
        return self.checksum == 0 and self.flags == 0 and self.metadata_offset == HEADER_BYTES and in_order


def align(offset: int) -> int:
    """`offset`, rounded up to the alignment of sections and tensors."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def checksum_error(path: Path, header: Header) -> ChecksumMismatch:
    """The error for a header whose stored checksum is wrong."""
    message = (
        f"the header's checksum is {header.checksum:08x}, its bytes give {header.computed_checksum:08x}; "
        "the header is damaged, get the file again"
    )
    return ChecksumMismatch(path, message, offset=40)


def check_header(path: Path, header: Header, *, size: int, findings: Findings) -> None:
    """Refuse a header whose checksum, version, flags or offsets are wrong; `size` is the file's, in bytes."""
    if not header.is_sound and not header.may_be_serializer:
        findings.defect(checksum_error(path, header))
    if header.version != (2, 0):
        major, minor = header.version
        message = f"this is version {major}.{minor}, only 2.0 is read; write it again with a tool of today"
        findings.defect(UnsupportedVersion(path, message, offset=4))
    _check_flags(path, header, findings=findings)
    if any(header.reserved):
        findings.warn("reserved", "bytes 44..63 of the header are not zero; they have no meaning in version 2.0")
    _check_sections(path, header, size=size, findings=findings)


def _check_flags(path: Path, header: Header, *, findings: Findings) -> None:
    for flag, meaning in _FORBIDDEN.items():
        if header.flags & flag:
            findings.defect(ForbiddenFlag(path, f"flag {flag:#06x}: the file {meaning}", offset=6))
    if header.flags & SIGNED:
        findings.warn("signed", "the file says that it is signed; version 2 defines no signature, so none is checked")
    if header.flags & SHARDED:
        findings.warn("sharded", "the file says that it is one shard of a model; the other shards are not looked for")
    if header.flags & UNDEFINED:
        findings.warn("unknown-flags", f"flags {header.flags & UNDEFINED:#06x} have no meaning in version 2.0")


def _check_sections(path: Path, header: Header, *, size: int, findings: Findings) -> None:
    """Metadata, index and data in order, inside the file, each where the one before it ends."""
    metadata_end = HEADER_BYTES + header.metadata_bytes
    if header.metadata_offset != HEADER_BYTES:
        raise _misplaced(path, "metadata", at=12, found=header.metadata_offset, expected=f"at {HEADER_BYTES}")
    if header.metadata_bytes > MAX_BYTES:
        message = f"announces {header.metadata_bytes} bytes of metadata, the limit is {MAX_BYTES}"
        raise LimitExceeded(path, message, offset=20)
    if metadata_end > size:
        raise _cut(path, "metadata", at=20, end=metadata_end, size=size)
    if header.index_offset > header.data_offset:
        raise _misplaced(path, "index", at=24, found=header.index_offset, expected=f"before data {header.data_offset}")
    if header.index_offset < metadata_end or header.index_offset % ALIGNMENT:
        expected = f"at {align(metadata_end)}, after the metadata"
        raise _misplaced(path, "index", at=24, found=header.index_offset, expected=expected)
    if header.index_offset > size:
        raise _cut(path, "index", at=24, end=header.index_offset, size=size)
    if header.data_offset % ALIGNMENT and not header.may_be_serializer:
        message = f"data starts at byte {header.data_offset}, which is no multiple of {ALIGNMENT}; write the file again"
        findings.defect(MisalignedTensor(path, message, offset=32))
    if header.data_offset > size:
        findings.defect(_cut(path, "index", at=32, end=header.data_offset, size=size))
    room = min(size, header.data_offset) - header.index_offset
    if header.n_tensors * MIN_RECORD_BYTES > room:
        message = (
            f"announces {header.n_tensors} tensors, whose records take {MIN_RECORD_BYTES} bytes or more each; "
            f"the index has {room} bytes; get the file again"
        )
        findings.defect(LimitExceeded(path, message, offset=8))


def _misplaced(path: Path, what: str, *, at: int, found: int, expected: str) -> BadOffset:
    message = f"the header puts the {what} at byte {found}, expected it {expected}; the header is damaged"
    return BadOffset(path, message, offset=at)


def _cut(path: Path, what: str, *, at: int, end: int, size: int) -> FormatError:
    message = f"the header puts the end of the {what} at byte {end}, the file has {size}; it is probably cut short"
    return TruncatedFile(path, message, offset=at)
