"""Files that are called `.apr` and are something else: named, and their damage told apart where that is cheap.

At least seven unrelated layouts carry the extension. None of them holds a language model that can be read here.

    APRN            aprender's version 1: classic models (regression, trees, n-grams), checksummed
    APR1 + JSON     aprender's JSON-index container, checksummed
    APR1 + 01 00    whisper.apr's own
    APR2 / APR\\0   a compressed APR1 file inside
    APR2 + 02 00    version 2 under its first magic
    APR\\0 + 01 00  presentar's layer list; aprender-tsp's parameters
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from apr.errors import (
    ChecksumMismatch,
    ForbiddenFlag,
    ForeignFormat,
    FormatError,
    LimitExceeded,
    TruncatedFile,
    UnsupportedVersion,
)
from apr.formats._apr_header import FIRST_MAGIC, FOOTER_BYTES, MAGIC
from apr.formats._base import MappedFile
from apr.formats._json import parse_object

# a look-alike is refused anyway; checking the sum of a larger one would only delay that
MAX_CHECKED_BYTES = 64 << 20
_MAX_JSON_BYTES = 1 << 20

_APRN = struct.Struct("<4sBBHIIIBBB9s")
_APRN_SIGNATURE_BYTES = 64 + 32  # Ed25519 signature and public key
_APRN_COMPRESSION = ("uncompressed", "Zstandard", "Zstandard (level 19)", "LZ4")
_APRN_TYPES = {
    1: "linear regression",
    2: "logistic regression",
    3: "decision tree",
    4: "random forest",
    5: "gradient boosting",
    6: "k-means",
    7: "PCA",
    8: "naive Bayes",
    9: "k-nearest neighbours",
    10: "SVM",
    0x10: "n-gram language model",
    0x11: "TF-IDF",
    0x12: "count vectoriser",
    0x20: "sequential neural network",
    0x21: "custom neural network",
    0x30: "recommender",
    0x40: "mixture of experts",
    0xFF: "custom",
}
_TSP_KIND = 0x54535000
_WRAPPERS = {0: "uncompressed", 1: "LZ4", 2: "Zstandard"}


def lookalike(mapped: MappedFile) -> FormatError | None:
    """The error that names what a file is if it is not version 2, or None if it may be. Reads little of a large file."""
    head = bytes(mapped.buffer[:16])
    if head[:4] == b"APRN":
        return _aprn(mapped)
    if head[:4] == b"APR1":
        return _apr1(mapped)
    if head[:4] not in (MAGIC, FIRST_MAGIC) or len(head) < 14:
        return None
    return _wrapper(mapped.path, head) or (_tsp(mapped) or _presentar(mapped) if head[:4] == MAGIC else None)


def first_magic(path: Path) -> ForeignFormat:
    """The error for version 2 under the magic `APR2`, which aprender itself no longer reads."""
    message = (
        "this is version 2 under its first magic 'APR2' (written until January 2026), expected 'APR' and a NUL; "
        "aprender refuses it too, convert the original model again"
    )
    return ForeignFormat(path, message, offset=3)


def _aprn(mapped: MappedFile) -> FormatError:
    path, size = mapped.path, mapped.size
    if size < _APRN.size + FOOTER_BYTES:
        return TruncatedFile(path, f"an APRN file of {size} bytes; its header alone has {_APRN.size}", offset=size)
    _, major, minor, kind, n_meta, n_payload, _, compression, flags, _, _ = _APRN.unpack(mapped.buffer[: _APRN.size])
    name = f"an APRN file (aprender's version 1), model type {kind}: {_APRN_TYPES.get(kind, 'unknown')}"
    if major > 1:
        return UnsupportedVersion(path, f"{name}, version {major}.{minor}; 1.0 is the only one there was", offset=4)
    if compression >= len(_APRN_COMPRESSION):
        return ForbiddenFlag(path, f"{name}, compression {compression}; 0 to 3 are defined", offset=20)
    signature = _APRN_SIGNATURE_BYTES if flags & 2 else 0
    whole = _APRN.size + n_meta + n_payload + signature + FOOTER_BYTES
    checksum = _checksum_error(mapped, name)
    if whole > size and checksum:
        return TruncatedFile(path, f"{name}; it should have {whole} bytes and has {size}, get it again", offset=size)
    if whole > size:
        message = f"{name}; it announces a payload of {n_payload} bytes, and the file of {size} bytes is whole by its checksum"
        return LimitExceeded(path, message, offset=12)
    if checksum:
        return checksum
    details = [_APRN_COMPRESSION[compression]]
    details += ["encrypted"] if flags & 1 else []
    details += ["signed"] if flags & 2 else []
    return _foreign(path, f"{name}, {', '.join(details)}", advice="open it with the aprender library")


def _apr1(mapped: MappedFile) -> FormatError:
    path, size, buffer = mapped.path, mapped.size, mapped.buffer
    head = bytes(buffer[:9])
    if len(head) < 9:
        return TruncatedFile(path, f"an APR1 file of {size} bytes, too short to tell which", offset=size)
    if head[8:9] != b"{":
        if head[4:6] == b"\1\0":
            return _foreign(path, "a model of whisper.apr (APR1, binary header)", advice="open it with whisper.apr")
        return _foreign(path, "an APR1 file of an unknown kind", advice="no reader for it is known")
    name = "an APR1 JSON-index file (aprender, December 2025 to February 2026)"
    metadata_end = 8 + int.from_bytes(head[4:8], "little")
    index_start = metadata_end + 8
    if index_start > size:
        return TruncatedFile(path, f"{name}; its metadata ends at byte {metadata_end}, the file at {size}", offset=size)
    n_tensors, n_index = struct.unpack_from("<II", buffer, metadata_end)
    if index_start + n_index + FOOTER_BYTES > size:
        end = index_start + n_index
        return TruncatedFile(path, f"{name}; its index ends at byte {end}, the file at {size}", offset=size)
    if error := _checksum_error(mapped, name):
        return error
    says = _model_type(path, bytes(buffer[8 : min(metadata_end, 8 + _MAX_JSON_BYTES)]))
    return _foreign(path, f"{name} with {n_tensors} tensors{says}", advice="write it again with a later aprender")


def _model_type(path: Path, text: bytes) -> str:
    try:
        metadata = parse_object(path, text, offset=8, what="metadata")
    except FormatError:
        return ", metadata unreadable"
    return f", model_type {metadata['model_type']!r}" if "model_type" in metadata else ""


def _wrapper(path: Path, head: bytes) -> FormatError | None:
    """A compressed APR1 file: magic, u8 kind, u32 length, then that many bytes once decompressed."""
    kind, inside = head[4], head[9:]
    starts = {0: b"APR1", 1: head[5:9], 2: b"\x28\xb5\x2f\xfd"}  # LZ4 repeats the length; Zstandard has a magic
    if kind not in starts or not inside.startswith(starts[kind]) or not any(head[5:9]):
        return None
    shown = head[:4].decode("latin-1").replace("\0", "\\0")
    what = f"an APR1 file in an '{shown}' wrapper ({_WRAPPERS[kind]}; aprender, January to February 2026)"
    return _foreign(path, what, advice="write it again with a later aprender")


def _tsp(mapped: MappedFile) -> FormatError | None:
    """aprender-tsp: magic, u32 1, u32 kind, CRC32 of byte 16 to the end, parameters."""
    if mapped.size < 16 or struct.unpack_from("<II", mapped.buffer, 4) != (1, _TSP_KIND):
        return None
    if mapped.size <= MAX_CHECKED_BYTES:
        stored, computed = struct.unpack_from("<I", mapped.buffer, 12)[0], zlib.crc32(mapped.buffer[16:])
        if stored != computed:
            message = f"an aprender-tsp model, damaged: its checksum is {stored:08x}, its bytes give {computed:08x}"
            return ChecksumMismatch(mapped.path, message, offset=12)
    return _foreign(mapped.path, "an aprender-tsp model (travelling salesman)", advice="open it with aprender-tsp")


def _presentar(mapped: MappedFile) -> FormatError | None:
    """presentar: magic, u32 1, a name with its length in front, layers."""
    version, n_name = struct.unpack_from("<II", mapped.buffer, 4)
    name = bytes(mapped.buffer[12 : 12 + min(n_name, 256)])
    if (
        version != 1
        or not 0 < n_name <= 256
        or len(name) < n_name
        or not name.isascii()
        or not name.decode().isprintable()
    ):
        return None
    return _foreign(mapped.path, f"a layer list of presentar, named {name.decode()!r}", advice="open it with presentar")


def _checksum_error(mapped: MappedFile, name: str) -> ChecksumMismatch | None:
    if mapped.size > MAX_CHECKED_BYTES:
        return None
    end = mapped.size - FOOTER_BYTES
    stored, computed = int.from_bytes(mapped.buffer[end:], "little"), zlib.crc32(mapped.buffer[:end])
    if stored == computed:
        return None
    message = f"{name}, damaged: its checksum is {stored:08x}, its bytes give {computed:08x}"
    return ChecksumMismatch(mapped.path, message, offset=end)


def _foreign(path: Path, what: str, *, advice: str) -> ForeignFormat:
    return ForeignFormat(path, f"this is {what}, not an .apr file of version 2; {advice}", offset=0)
