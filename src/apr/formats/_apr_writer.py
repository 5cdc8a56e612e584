"""Writes `.apr` version 2 in the canonical form: sorted index, everything on multiples of 64, both checksums.

Tensors lie in the order in which they are given, so that memory stays near one tensor; the index alone is sorted, as
aprender's streaming writer has it. Given in sorted order, they lie as its in-memory writer lays them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from apr import _atomic
from apr.errors import BadMetadata, DuplicateName, LimitExceeded, ShapeMismatch, UnsupportedError
from apr.formats._apr_dtypes import codes, count
from apr.formats._apr_header import ALIGNMENT, HEADER_BYTES, MAGIC, Header, align
from apr.formats._apr_index import Record, name_error, shape_error
from apr.formats._json import MAX_BYTES
from apr.kernels import quants

_U32_MAX = (1 << 32) - 1
_U64_MAX = (1 << 64) - 1

Tensors = Sequence[tuple[str, str, tuple[int, ...]]]


def plan_records(path: Path, tensors: Tensors) -> list[Record]:
    """The records of `tensors` (name, codec, shape), laid one after the other in the order given.

    Raises BadString (name), DuplicateName, LimitExceeded (dimensions, count), ShapeMismatch (rows of partial blocks),
    UnsupportedError (a codec that `.apr` has no type for).
    """
    if len(tensors) > _U32_MAX:
        raise LimitExceeded(path, f"not written: {len(tensors)} tensors, the limit is {_U32_MAX}")
    by_name = {codec: code for code, codec in codes().items()}
    records: list[Record] = []
    seen: set[str] = set()
    offset = 0
    for name, codec, shape in tensors:
        if error := name_error(path, name.encode("utf-8", "surrogatepass")) or shape_error(path, shape):
            raise error
        if name in seen:
            raise DuplicateName(path, f"not written: tensor {name!r} occurs twice")
        if codec not in by_name:
            message = f"{path}: not written: tensor {name!r} is {codec}, which .apr has no type for; convert it first"
            raise UnsupportedError(message, known=sorted(by_name))
        if not quants.codec(codec).row_fits(shape):
            block = quants.codec(codec).block_size
            message = (
                f"not written: tensor {name!r} has shape {list(shape)}, {codec} needs rows of whole blocks of {block}"
            )
            raise ShapeMismatch(path, message)
        n_bytes = quants.codec(codec).n_bytes(count(shape))
        records.append(Record(name, name.encode(), by_name[codec], shape, offset, n_bytes, at=0))
        seen.add(name)
        offset = align(offset + n_bytes)
    if offset > _U64_MAX - (1 << 40):
        raise LimitExceeded(path, f"not written: {offset} bytes of tensors do not fit the format's 64 bits")
    return records


def write_sections(
    path: Path, records: Sequence[Record], *, metadata: bytes, flags: int, data: Callable[[str], np.ndarray]
) -> None:
    """Write a file from its parts, atomically; `records` and `data` as the module says, `metadata` the JSON text."""
    if len(metadata) > MAX_BYTES:
        raise BadMetadata(path, f"not written: the metadata takes {len(metadata)} bytes, the limit is {MAX_BYTES}")
    index = b"".join(record.pack() for record in sorted(records, key=lambda r: r.raw_name))
    index_offset = align(HEADER_BYTES + len(metadata))
    header = Header(
        magic=MAGIC,
        version=(2, 0),
        flags=flags,
        n_tensors=len(records),
        metadata_offset=HEADER_BYTES,
        metadata_bytes=len(metadata),
        index_offset=index_offset,
        data_offset=align(index_offset + len(index)),
        checksum=0,
    )
    header = replace(header, checksum=header.computed_checksum)
    with _atomic.writing(path) as file:
        summed = _Summed(file)
        for section in (header.pack(), metadata, index):
            summed.write_padded(section)
        for record in records:
            encoded = data(record.name)
            if encoded.dtype != np.uint8 or encoded.size != record.n_bytes:
                found = f"{encoded.size} values of {encoded.dtype}"
                message = f"not written: tensor {record.name!r} came as {found}, expected {record.n_bytes} bytes"
                raise ShapeMismatch(path, message)
            summed.write_padded(np.ascontiguousarray(encoded).reshape(-1).data)
        file.write(summed.checksum.to_bytes(4, "little"))


class _Summed:
    """A file that counts and sums what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.checksum = 0

    def write_padded(self, content: bytes | memoryview) -> None:
        """Write `content`, and zeros up to a multiple of the alignment."""
        for piece in (content, bytes(-len(content) % ALIGNMENT)):
            self.checksum = zlib.crc32(piece, self.checksum)
            self.file.write(piece)
