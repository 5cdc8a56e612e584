"""The GGUF header, validated whole: nothing is handed out before every count, length, shape and offset is checked.

    "GGUF"  version u32  n_tensors u64  n_kv u64      little-endian throughout
    n_kv x       key, type u32, value
    n_tensors x  name, n_dims u32, dims u64 (fastest first), type u32, offset u64 (from the start of the data)
    padding to the alignment, then the data; every tensor is padded to the alignment, too

Single checks in this place have been got round before (CVE-2024-21802 and its siblings, CVE-2025-53630,
CVE-2026-27940): hence plain Python integers, which do not wrap, and one rule for all counts: they are compared with the
bytes left in the file before anything is allocated.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from apr.errors import (
    BadMagic,
    BadMetadata,
    BadString,
    DuplicateName,
    FormatError,
    LimitExceeded,
    MisalignedTensor,
    OverlappingTensors,
    ShapeMismatch,
    TrailingBytes,
    TruncatedFile,
    UnknownDtype,
    UnsupportedVersion,
)
from apr.formats._base import TensorInfo, Warned
from apr.formats._ggml_types import REMOVED, TYPES
from apr.formats._gguf_values import MAX_KEY_BYTES, Cursor, read_key, read_value

MAGIC = b"GGUF"
VERSION = 3
DEFAULT_ALIGNMENT = 32
MIN_ALIGNMENT = 8  # the specification says: a multiple of 8
MAX_ALIGNMENT = 1 << 24
MAX_KV = 65_536
MAX_TENSORS = 65_536  # GGUF stacks experts: the largest published files have under 3,000; checking costs 10 µs a tensor
MAX_DIMS = 4
MAX_NAME_BYTES = 63  # GGML_MAX_NAME is 64, its final NUL included
MAX_ELEMENTS = 2**63 - 1

_SMALLEST_KV = 8 + 1 + 4 + 1
_SMALLEST_TENSOR = 8 + 1 + 4 + 4 + 8
# dimensions, type, offset; by number of dimensions
_DESCRIPTIONS = tuple(struct.Struct(f"<{n_dims}QIQ") for n_dims in range(MAX_DIMS + 1))


@dataclass(slots=True)
class Header:
    """A header that has passed every check.

    metadata, value_types:  by key, in the order of the file
    tensors:                by name, in the order of the data, with offsets from the start of the file
    data_offset:            the first byte of the data
    data_end:               the byte after the last tensor, without its padding
    """

    version: int
    alignment: int = DEFAULT_ALIGNMENT
    metadata: dict[str, Any] = field(default_factory=dict)
    value_types: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    data_offset: int = 0
    data_end: int = 0
    warnings: list[Warned] = field(default_factory=list)


class _Entry(NamedTuple):
    shape: tuple[int, ...]
    codec: str
    offset: int
    n_bytes: int


def pad(n_bytes: int, alignment: int) -> int:
    """`n_bytes` rounded up to a multiple of `alignment`."""
    return -(-n_bytes // alignment) * alignment


def parse(path: Path, buffer: memoryview, *, file_size: int) -> Header:
    """Read and check a whole header.

    buffer:     the file from its first byte on: at least the header
    file_size:  bytes of the whole file, against which the data is measured
    Raises      FormatError, one subclass a rule, with the byte where the rule is broken.
    """
    cursor = Cursor(path, buffer)
    header = Header(_read_version(cursor))
    at_counts = cursor.position
    n_tensors = cursor.u64("the number of tensors")
    n_kv = cursor.u64("the number of metadata keys")
    _check_count(cursor, n_tensors, "tensors", MAX_TENSORS, at_counts)
    _check_count(cursor, n_kv, "metadata keys", MAX_KV, at_counts + 8)
    cursor.need(
        n_tensors * _SMALLEST_TENSOR + n_kv * _SMALLEST_KV, f"a header of {n_kv:,} keys and {n_tensors:,} tensors"
    )
    for index in range(n_kv):
        _read_pair(cursor, header, index)
    entries: dict[str, _Entry] = {}
    expected = 0
    for index in range(n_tensors):
        entry = _read_tensor(cursor, entries, index, expected=expected, alignment=header.alignment)
        expected += pad(entry.n_bytes, header.alignment)
    # without tensors there is no data section, and nothing to align
    header.data_offset = pad(cursor.position, header.alignment) if entries else cursor.position
    for name, entry in entries.items():
        at = header.data_offset + entry.offset
        header.tensors[name] = TensorInfo(name, entry.codec, entry.shape, at, entry.n_bytes, path)
    _check_padding(cursor, header, file_size)
    _check_end(path, header, file_size)
    return header


def _read_version(cursor: Cursor) -> int:
    head = bytes(cursor.buffer[:4])
    if head != MAGIC[: len(head)]:
        raise BadMagic(
            cursor.path, f"starts with {head!r}, a GGUF file starts with {MAGIC!r}; this is another format", offset=0
        )
    cursor.need(4, "the magic 'GGUF'")
    cursor.position = 4
    version = cursor.u32("the version")
    if version in (2, VERSION):
        return version
    if version and version & 0xFFFF == 0:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        message = (
            f"version {version} is {swapped} with its bytes swapped: a big-endian file, and only little-endian ones "
            "are read; convert it with gguf_convert_endian.py"
        )
    elif version == 1:
        message = "GGUF version 1, versions 2 and 3 are read; convert the model again with a current converter"
    else:
        message = (
            f"GGUF version {version}, versions 2 and 3 are read; the header is corrupt, or newer than this program"
        )
    raise UnsupportedVersion(cursor.path, message, offset=4)


def _check_count(cursor: Cursor, count: int, what: str, limit: int, offset: int) -> None:
    if count > limit:
        message = f"the file announces {count:,} {what}, at most {limit:,} are allowed; the count is corrupt"
        raise LimitExceeded(cursor.path, message, offset=offset)


def _read_pair(cursor: Cursor, header: Header, index: int) -> None:
    at = cursor.position
    key = read_key(cursor, index)
    if key in header.metadata:
        raise DuplicateName(
            cursor.path, f"the metadata key {key[:80]!r} occurs twice; remove one and write the file again", offset=at
        )
    at_value = cursor.position
    header.value_types[key], header.metadata[key] = read_value(cursor, key)
    if key == "general.alignment":
        header.alignment = _check_alignment(cursor.path, header.value_types[key], header.metadata[key], at_value)


def _check_alignment(path: Path, kind: str, value: Any, offset: int) -> int:
    if kind != "uint32":
        raise BadMetadata(
            path, f"'general.alignment' is {kind}, it must be uint32; the header is corrupt", offset=offset
        )
    alignment = int(value)
    if not MIN_ALIGNMENT <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        message = (
            f"'general.alignment' is {alignment}, it must be a power of two from {MIN_ALIGNMENT} to "
            f"{MAX_ALIGNMENT:,}; write the file again with 32"
        )
        raise BadMetadata(path, message, offset=offset + 4)
    return alignment


def _read_tensor(cursor: Cursor, entries: dict[str, _Entry], index: int, *, expected: int, alignment: int) -> _Entry:
    at = cursor.position
    name = _read_name(cursor, index)
    if name in entries:
        message = f"the tensor {name!r} occurs twice; the file is corrupt, fetch it again"
        raise DuplicateName(cursor.path, message, offset=at)
    at = cursor.position
    n_dims = cursor.u32("the number of dimensions of a tensor")
    if n_dims > MAX_DIMS:
        message = f"tensor {name!r} has {n_dims:,} dimensions, at most {MAX_DIMS} are allowed; the count is corrupt"
        raise LimitExceeded(cursor.path, message, offset=at)
    # in one go: a header may have a million of these
    rest = _DESCRIPTIONS[n_dims]
    cursor.need(rest.size, "the dimensions, type and offset of a tensor")
    *dims, number, offset = rest.unpack_from(cursor.buffer, cursor.position)
    cursor.position += rest.size
    kind = TYPES.get(number)
    if kind is None:
        raise _unknown_type(cursor.path, name, number, cursor.position - 12)
    n_elements = _count_elements(cursor.path, name, dims, at + 4)
    if (dims and dims[0] % kind.block_size) or n_elements % kind.block_size:
        needed = f"rows of {kind.name} need a multiple of {kind.block_size}"
        message = f"tensor {name!r} has the dimensions {dims}, and {needed}; the type or the shape is corrupt"
        raise ShapeMismatch(cursor.path, message, offset=at + 4)
    if offset != expected:
        raise _wrong_offset(cursor.path, name, offset, expected, alignment, cursor.position - 8)
    # GGUF counts dimensions from the fastest; from here on they are row-major
    entry = _Entry(tuple(dims[::-1]), kind.name, offset, n_elements // kind.block_size * kind.block_bytes)
    entries[name] = entry
    return entry


def _read_name(cursor: Cursor, index: int) -> str:
    at = cursor.position
    raw = cursor.string("the name of a tensor", limit=MAX_KEY_BYTES)
    if len(raw) > MAX_NAME_BYTES:
        message = f"the name of tensor {index} has {len(raw)} bytes, at most {MAX_NAME_BYTES} are allowed: {raw[:80]!r}"
        raise LimitExceeded(cursor.path, message, offset=at)
    if not raw or 0 in raw:
        message = f"the name of tensor {index} is {raw!r}; it must have a byte, and none that is 0"
        raise BadString(cursor.path, message, offset=at)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"the name of tensor {index} is {raw!r}, which is not UTF-8; the header is corrupt"
        raise BadString(cursor.path, message, offset=at + 8 + error.start) from error


def _count_elements(path: Path, name: str, dims: list[int], offset: int) -> int:
    n_elements = math.prod(dims)
    # with no dimension 0, no product below the limit has a factor above it
    if 0 < n_elements < MAX_ELEMENTS:
        return n_elements
    what = "a dimension of 0" if 0 in dims else "2^63 elements or more"
    message = f"tensor {name!r} has {what} in {dims}; the dimensions are corrupt, fetch the file again"
    raise ShapeMismatch(path, message, offset=offset)


def _unknown_type(path: Path, name: str, number: int, offset: int) -> UnknownDtype:
    what = f"tensor {name!r} has type {number}"
    if number in REMOVED:
        message = f"{what}, {REMOVED[number]}, which ggml has removed; convert the model again to another type"
    else:
        message = (
            f"{what}, which is unknown here (0 to {max(TYPES)}); the header is corrupt, or newer than this program"
        )
    return UnknownDtype(path, message, offset=offset)


def _wrong_offset(path: Path, name: str, found: int, expected: int, alignment: int, offset: int) -> FormatError:
    what = f"tensor {name!r} starts at byte {found} of the data, expected {expected}"
    if found % alignment:
        return MisalignedTensor(path, f"{what}: no multiple of {alignment}; the offset is corrupt", offset=offset)
    why = "it lies on the tensor before it" if found < expected else "it leaves a hole before it"
    return OverlappingTensors(path, f"{what}: {why}; the offset is corrupt", offset=offset)


def _check_padding(cursor: Cursor, header: Header, file_size: int) -> None:
    # without this check, a count of tensors that is too small turns the descriptions left over into weights
    stop = pad(cursor.position, header.alignment)
    padding = bytes(cursor.buffer[cursor.position : stop])
    if padding.strip(b"\0"):
        at = cursor.position + len(padding) - len(padding.lstrip(b"\0"))
        message = "the padding after the header is not 0; the number of tensors is corrupt, or the header was edited"
        raise TrailingBytes(cursor.path, message, offset=at)
    if not header.tensors and file_size > stop:
        message = (
            f"{file_size - stop:,} bytes follow a header that announces no tensors; the number of tensors is corrupt"
        )
        raise TrailingBytes(cursor.path, message, offset=stop)


def _check_end(path: Path, header: Header, file_size: int) -> None:
    header.data_end = header.data_offset
    for whole, info in enumerate(header.tensors.values()):
        header.data_end = info.offset + info.n_bytes
        if header.data_end > file_size:
            counts = f"{whole:,} of {len(header.tensors):,} tensors are whole"
            message = (
                f"tensor {info.name!r} ends at byte {header.data_end:,}, the file has {file_size:,} ({counts}); "
                "the download is probably cut short, fetch it again"
            )
            raise TruncatedFile(path, message, offset=file_size)
    padded = pad(header.data_end, header.alignment)
    if file_size > padded:
        message = (
            f"{path}: {file_size - padded:,} bytes follow the last tensor; "
            "they are no part of the model, and a rewritten file lacks them"
        )
        header.warnings.append(Warned("trailing-bytes", message))
    elif file_size < padded and header.tensors:
        message = (
            f"{path}: the padding after the last tensor lacks {padded - file_size} bytes; "
            "some readers demand it, write the file again"
        )
        header.warnings.append(Warned("missing-padding", message))
    parts = header.metadata.get("split.count")
    if isinstance(parts, int) and parts > 1:
        header.warnings.append(
            Warned("split", f"{path}: one of {parts} parts of a model; merge them with `llama-gguf-split --merge`")
        )
