"""APR version 2 (`.apr`): one file with a JSON metadata object and tensors, as aprender and realizar write it.

`read` is as strict as the strictest upstream reader, and checks besides what none of them does: bounds, overlap, sizes
against shapes, names, the file's length. It reads header, metadata and index, never the data, so the footer's checksum
over the data is checked by `verify`. `read_lenient` turns what some upstream reader overlooks into warnings, so that a
damaged file can be inspected. `write` writes the canonical form alone.

The metadata keeps the file's own keys; `AprFile.canonical_metadata` has one spelling per dimension.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from apr.errors import (
    BadMagic,
    BadMetadata,
    ChecksumMismatch,
    FormatError,
    TensorOutOfBounds,
    TrailingBytes,
    TruncatedFile,
)
from apr.formats import _apr_dtypes, _apr_header, _apr_index, _apr_json, _apr_lookalikes, _apr_metadata, _apr_writer
from apr.formats._apr_findings import Findings, LenientFindings
from apr.formats._apr_header import Dialect, Header
from apr.formats._apr_index import Record
from apr.formats._base import MappedFile, ModelFile, Outgoing, TensorInfo
from apr.formats._json import parse_object

_CHUNK_BYTES = 1 << 24


def is_mine(head: bytes) -> bool:
    """Whether a file starts like any of the layouts called `.apr`; `read` names those that are not version 2."""
    return head.startswith(b"APR")


def read(path: Path) -> AprFile:
    """Open a version 2 file. Raises FormatError, one subclass a rule, for anything else."""
    return AprFile(path, findings=Findings())


def read_lenient(path: Path) -> AprFile:
    """Open what at least one upstream reader opens; its defects are warnings with the code of the strict error.

    A tensor with a defect of its own is listed, and asking for its data raises that defect. Raises FormatError where
    nothing sensible can be listed.
    """
    return AprFile(path, findings=LenientFindings())


def write(path: Path, model: Outgoing) -> None:
    """Write `model` in the canonical form, whole or not at all. Same model, same bytes.

    Metadata keeps its order; `null` is kept but for dimensions. Raises BadMetadata (types, other spellings of a key,
    NaN), BadString, DuplicateName, LimitExceeded, ShapeMismatch, UnsupportedError (a codec that has no type here).
    """
    _apr_metadata.check_outgoing(path, model.metadata)
    flags = _apr_header.ROW_MAJOR
    if "tokenizer.vocabulary" in model.metadata:
        flags |= _apr_header.HAS_VOCABULARY
    if any(codec not in _apr_dtypes.PLAIN for _, codec, _ in model.tensors):
        flags |= _apr_header.QUANTIZED
    metadata = _apr_json.dump(path, model.metadata)
    records = _apr_writer.plan_records(path, model.tensors)
    _apr_writer.write_sections(path, records, metadata=metadata, flags=flags, data=model.data)


class AprFile(ModelFile):
    """An opened `.apr` file of version 2.

    header:   its fields as the file has them
    dialect:  "aprender", or which of realizar's two writers made it
    """

    format = "apr"
    header: Header
    dialect: Dialect
    _footer: int | None

    def __init__(self, path: Path, *, findings: Findings) -> None:
        super().__init__(path)
        self._defects: dict[str, FormatError] = {}
        self.warnings = findings.warnings
        try:
            self._open(self.map(path), findings)
        except BaseException:
            self.close()
            raise

    @property
    def canonical_metadata(self) -> dict[str, Any]:
        """The metadata with every dimension under aprender's spelling."""
        return _apr_metadata.canonical(self.metadata)

    def raw(self, name: str) -> np.ndarray:
        """uint8 [n_bytes]: a tensor's bytes. Raises the tensor's own defect, in a file that was opened leniently."""
        if name in self._defects:
            raise self._defects[name]
        return super().raw(name)

    def array(self, name: str) -> np.ndarray:
        """float32 [shape]: a tensor, decoded. Raises as `raw` does, and UnsupportedError for an unknown encoding."""
        if name in self._defects:
            raise self._defects[name]
        return super().array(name)

    def verify(self) -> list[str]:
        """Recompute the header's and the footer's checksum, the latter over the whole file. Raises ChecksumMismatch."""
        if self.dialect == "realizar-serializer":
            return ["no checksum to verify: realizar's serialiser writes neither a header checksum nor a footer"]
        if not self.header.is_sound:
            raise _apr_header.checksum_error(self.path, self.header)
        sentences = [f"the header's checksum {self.header.checksum:08x} is right"]
        if self._footer is None:
            return [*sentences, "no footer: nothing guards the metadata, the index and the data"]
        mapped, computed = self.map(self.path), 0
        for start in range(0, self._footer, _CHUNK_BYTES):
            n_bytes = min(_CHUNK_BYTES, self._footer - start)
            computed = zlib.crc32(mapped.bytes_at(start, n_bytes).data, computed)
            mapped.release(start, n_bytes)
        stored = int.from_bytes(mapped.bytes_at(self._footer, _apr_header.FOOTER_BYTES).tobytes(), "little")
        if stored != computed:
            message = (
                f"the footer's checksum is {stored:08x}, the file's bytes give {computed:08x}; "
                "metadata, index or data are damaged, get the file again"
            )
            raise ChecksumMismatch(self.path, message, offset=self._footer)
        return [*sentences, f"the footer's checksum {stored:08x} is right for all {self._footer} bytes before it"]

    def _open(self, mapped: MappedFile, findings: Findings) -> None:
        path, size = self.path, mapped.size
        header = self.header = _read_header(mapped, findings)
        _apr_header.check_header(path, header, size=size, findings=findings)
        self.metadata = _read_metadata(mapped, header, findings)
        section = mapped.buffer[header.index_offset : min(header.data_offset, size)]
        records, index_end = _apr_index.parse_index(
            path, section, count=header.n_tensors, start=header.index_offset, findings=findings
        )
        self.dialect = _dialect(path, header, records, index_end=index_end, size=size, findings=findings)
        _apr_index.check_names(path, records, findings=findings)
        if self.dialect != "realizar-serializer":
            _apr_index.check_order(path, records, findings=findings)
        _warn_of_padding(mapped, header, index_end=index_end, findings=findings)
        self._list_tensors(records, findings)
        self._check_length(records, size=size, findings=findings)

    def _list_tensors(self, records: list[Record], findings: Findings) -> None:
        """Fill `tensors`, each with the codec that its type, shape and size agree on."""
        old = {record.code for record in records if _apr_dtypes.is_old(record.code)}
        if old:
            shown = ", ".join(map(str, sorted(old)))
            findings.warn(
                "old-dtype", f"tensor types {shown} are no longer written; they were told apart by their sizes"
            )
        for record in records:
            found = _apr_dtypes.resolve(
                self.path,
                record.code,
                shape=record.shape,
                n_bytes=record.n_bytes,
                dialect=self.dialect,
                name=record.name,
                offset=record.at,
            )
            if isinstance(found, FormatError):
                findings.defect(found)
                self._defects.setdefault(record.name, found)
                found = f"apr-dtype-{record.code}"
            start = self.header.data_offset + record.offset
            info = TensorInfo(record.name, found, record.shape, start, record.n_bytes, self.path)
            self.tensors.setdefault(record.name, info)

    def _check_length(self, records: list[Record], *, size: int, findings: Findings) -> None:
        """Refuse a file that is shorter or longer than its tensors and its footer make it; find the footer."""
        gap = _apr_index.check_placement(self.path, records, findings=findings)
        if gap:
            findings.warn("gap", f"{gap} bytes of the data belong to no tensor")
        end = _data_end(self.header, records, dialect=self.dialect)
        has_footer = self.dialect == "aprender"
        whole = end + _apr_header.FOOTER_BYTES if has_footer else end
        self._footer = end if has_footer and size >= whole else None
        if not has_footer:
            findings.warn("no-footer", f"{self.dialect} writes no footer: no checksum guards metadata, index and data")
        if self.dialect == "realizar-serializer":
            findings.warn(
                "no-header-checksum", "realizar's serialiser writes no header checksum: nothing guards the header"
            )
        for record in records:
            if self.header.data_offset + record.end > size:
                error = _beyond(self.path, record, start=self.header.data_offset, size=size, whole=whole, gap=gap)
                findings.defect(error)
                self._defects.setdefault(record.name, error)
        if size < whole:
            message = f"the file ends at byte {size}, expected its checksum to end at {whole}; it is probably cut short"
            findings.defect(TruncatedFile(self.path, message, offset=size))
        if size > whole:
            message = f"{size - whole} bytes follow the end of the file's contents; they belong to nothing, remove them"
            findings.defect(TrailingBytes(self.path, message, offset=whole))


def _read_header(mapped: MappedFile, findings: Findings) -> Header:
    """The header, once nothing says that the file is something else."""
    path, magic = mapped.path, bytes(mapped.buffer[:4])
    if error := _apr_lookalikes.lookalike(mapped):
        raise error
    if not any(known.startswith(magic) for known in (_apr_header.MAGIC, _apr_header.FIRST_MAGIC)):
        raise BadMagic(path, f"starts with {magic!r}, expected {_apr_header.MAGIC!r}; this is no .apr file", offset=0)
    header = Header.unpack(path, bytes(mapped.buffer[: _apr_header.HEADER_BYTES]))
    if magic == _apr_header.FIRST_MAGIC:
        if not header.is_sound:
            raise BadMagic(path, f"starts with {magic!r} and is no version 2 file; this is no .apr file", offset=0)
        findings.defect(_apr_lookalikes.first_magic(path))
    return header


def _read_metadata(mapped: MappedFile, header: Header, findings: Findings) -> dict[str, Any]:
    """The metadata object, checked. A lenient reader goes on without it, as realizar does."""
    start = header.metadata_offset
    raw = bytes(mapped.buffer[start : start + header.metadata_bytes])
    if not raw:
        message = "the header announces no metadata, expected a JSON object, if only an empty one"
        findings.defect(BadMetadata(mapped.path, message, offset=20))
        return {}
    try:
        metadata = parse_object(mapped.path, raw, offset=start, what="metadata")
    except FormatError as error:
        findings.defect(error)
        return {}
    _apr_metadata.check_metadata(mapped.path, metadata, raw=raw, offset=start, findings=findings)
    return metadata


def _dialect(
    path: Path, header: Header, records: list[Record], *, index_end: int, size: int, findings: Findings
) -> Dialect:
    """Which writer made the file. Raises ChecksumMismatch for a missing header checksum that no writer leaves out."""
    if not header.is_sound and header.may_be_serializer:
        if index_end == header.data_offset:
            return "realizar-serializer"
        findings.defect(_apr_header.checksum_error(path, header))
    if header.flags == _apr_header.QUANTIZED and size == _data_end(header, records, dialect="realizar-q4k"):
        return "realizar-q4k"
    return "aprender"


def _data_end(header: Header, records: list[Record], *, dialect: Dialect) -> int:
    """Where the data ends in the file; the last tensor is padded but by realizar's serialiser."""
    n_bytes = max((record.end for record in records), default=0)
    return header.data_offset + (n_bytes if dialect == "realizar-serializer" else _apr_header.align(n_bytes))


def _warn_of_padding(mapped: MappedFile, header: Header, *, index_end: int, findings: Findings) -> None:
    """Warn of anything but a few zeros between metadata and index, and between index and data."""
    metadata_end = header.metadata_offset + header.metadata_bytes
    for name, start, end in (("metadata", metadata_end, header.index_offset), ("index", index_end, header.data_offset)):
        if end - start >= _apr_header.ALIGNMENT:
            findings.warn("gap", f"{end - start} bytes after the {name} belong to nothing")
        elif any(mapped.buffer[start:end]):
            findings.warn("padding", f"the padding after the {name} is not zero")


def _beyond(path: Path, record: Record, *, start: int, size: int, whole: int, gap: int) -> FormatError:
    """The error for a tensor beyond the end: a lying offset where tensors leave a gap, else a file cut short."""
    end = start + record.end
    if gap:
        message = f"tensor {record.name!r} is at bytes {start + record.offset} to {end}, the file has {size}"
        return TensorOutOfBounds(path, f"{message}; the index is damaged", offset=record.at)
    message = f"the file ends at byte {size}, inside tensor {record.name!r}, expected {whole} bytes"
    return TruncatedFile(path, f"{message}; the download is probably cut short", offset=size)
