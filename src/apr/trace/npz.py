"""A trace as `.npz`: an uncompressed zip of `.npy` arrays, written and read piece by piece.

Nothing here unpickles: an array of anything but float32 is refused by its header, before a byte of it is read, and so is
a member that is compressed, whose size could lie. Source: the zip layout of `numpy.savez`, and numpy/lib/_format_impl.py.
"""

from __future__ import annotations

import contextlib
import math
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from apr.errors import (
    BadMagic,
    BadMetadata,
    BadString,
    ChecksumMismatch,
    DuplicateName,
    HostileFile,
    LimitExceeded,
    ShapeMismatch,
    TruncatedFile,
    UnknownDtype,
    UsageError,
)
from apr.formats._base import MAX_DIMS
from apr.formats._json import MAX_BYTES, shorten

MAX_MEMBERS = 65_536
_MAX_NPY_HEADER = 4096  # a type and eight dimensions take 200
# as numpy/lib/_format_impl.py writes it, byte for byte; anything else is not evaluated
_NPY_TEXT = re.compile(
    rb"\{'descr': '([<>|=]\w\d{0,12})', 'fortran_order': (True|False), 'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \} *\n"
)
_TIME = (1980, 1, 1, 0, 0, 0)  # the least that a zip can say: the same trace is the same bytes


class Writer:
    """Writes arrays one by one into a file that is open for writing."""

    def __init__(
        self, file: IO[bytes], path: Path, key: str, text: str, layout: Sequence[tuple[str, tuple[int, ...]]]
    ) -> None:
        del path, layout
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._add(key, np.array(text))

    def put(self, name: str, values: np.ndarray) -> None:
        """Add a float32 array."""
        self._add(name, values)

    def finish(self) -> None:
        """Write the list of members."""
        self._zip.close()

    def abandon(self) -> None:
        """Close a zip that will not be kept, before its file is closed under it."""
        with contextlib.suppress(ValueError, OSError):
            self._zip.close()

    def _add(self, name: str, values: np.ndarray) -> None:
        with self._zip.open(zipfile.ZipInfo(f"{name}.npy", _TIME), "w", force_zip64=True) as member:
            npy.write_array(member, values, version=(1, 0), allow_pickle=False)


class Reader:
    """An opened file whose headers have all been checked; arrays are read when they are asked for."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, text: bytes, shapes: dict[str, tuple[int, ...]]) -> None:
        self.path, self.text, self.shapes = path, text, shapes
        self._zip = archive

    def array(self, name: str) -> np.ndarray:
        """float32 [shape]. Raises ChecksumMismatch, TruncatedFile."""
        data = _data(self.path, self._zip, f"{name}.npy")
        values: np.ndarray = np.frombuffer(data, dtype="<f4").reshape(self.shapes[name])
        return values

    def close(self) -> None:
        """Release the file."""
        self._zip.close()


def read(path: Path, *, key: str) -> Reader:
    """Open a file and check every member's header. Raises FormatError; UsageError if there is no file."""
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    if not path.is_file():
        raise HostileFile(path, "not a regular file; give the path of a trace")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as exc:
        raise BadMagic(path, f"not a zip, which a .npz is ({exc}); it is damaged or cut short", offset=0) from exc
    try:
        return _checked(path, archive, key)
    except BaseException:
        archive.close()
        raise


def _checked(path: Path, archive: zipfile.ZipFile, key: str) -> Reader:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise LimitExceeded(path, f"{len(members)} arrays, the limit is {MAX_MEMBERS}")
    if f"{key}.npy" not in archive.namelist():
        raise BadMetadata(path, f"no member {key!r}: these are arrays, and not a trace")
    shapes: dict[str, tuple[int, ...]] = {}
    text: bytes | None = None
    for member in members:
        name = _name(path, member)
        if name in shapes or (name == key and text is not None):
            raise DuplicateName(path, f"two members are called {shorten(name)}")
        descr, shape = _npy_header(path, archive, member)
        if name == key:
            text = _text(path, archive, member, descr, shape)
        elif descr != "<f4":
            raise UnknownDtype(path, f"slot {shorten(name)} is {descr}, expected float32, <f4")
        else:
            shapes[name] = shape
    assert text is not None
    return Reader(path, archive, text, shapes)


def _name(path: Path, member: zipfile.ZipInfo) -> str:
    """The name of an array, whose member says nothing that a plain one would not."""
    if not member.filename.endswith(".npy") or len(member.filename) > 260 or member.is_dir():
        raise BadString(path, f"a member {shorten(member.filename)}, expected the name of a slot and .npy")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size or member.flag_bits & 1:
        message = f"member {shorten(member.filename)} is compressed or encrypted; traces are neither"
        raise HostileFile(path, message, offset=member.header_offset)
    return member.filename.removesuffix(".npy")


def _npy_header(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[str, tuple[int, ...]]:
    """An array's type, as NumPy writes it, and its shape, which must take the very bytes that its member has."""
    name = shorten(member.filename)
    head = _opened(path, archive, member.filename, _MAX_NPY_HEADER)
    n_text = int.from_bytes(head[8:10], "little")
    found = _NPY_TEXT.fullmatch(head[10 : 10 + n_text])
    if head[:8] != b"\x93NUMPY\x01\x00" or found is None:
        message = f"member {name} does not start as NumPy writes a plain array, version 1.0"
        raise BadMetadata(path, message, offset=member.header_offset)
    descr, is_fortran = found[1].decode(), found[2] == b"True"
    shape = tuple(int(size) for size in found[3].split(b",") if size.strip())
    if descr.endswith("O"):
        message = f"member {name} holds pickled objects, which could run code; it is not read"
        raise HostileFile(path, message, offset=member.header_offset)
    if len(shape) > MAX_DIMS:
        raise LimitExceeded(path, f"member {name} has {len(shape)} dimensions, the limit is {MAX_DIMS}")
    if is_fortran and len(shape) > 1:
        raise BadMetadata(path, f"member {name} is column-major, expected rows", offset=member.header_offset)
    item_bytes = int(descr[2:] or 0) * (4 if descr[1] == "U" else 1)  # of a text: characters
    if math.prod(shape) * item_bytes != member.file_size - 10 - n_text:
        message = f"member {name} is {list(shape)} of {descr}, which are not the bytes it has"
        raise ShapeMismatch(path, message, offset=member.header_offset)
    return descr, shape


def _text(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, descr: str, shape: tuple[int, ...]) -> bytes:
    """The one text that a member holds, as UTF-8."""
    name = shorten(member.filename)
    if not descr.startswith("<U") or shape != () or member.file_size > 4 * MAX_BYTES:
        raise BadMetadata(path, f"member {name} is {descr} {list(shape)}, expected one text")
    try:
        return _data(path, archive, member.filename).decode("utf-32-le").encode("utf-8")
    except UnicodeError as exc:  # a code point that there is not
        raise BadString(path, f"member {name} is not text: {exc}") from exc


def _data(path: Path, archive: zipfile.ZipFile, filename: str) -> bytes:
    """The bytes behind an array's header, which has been checked."""
    data = _opened(path, archive, filename, -1)  # to the end: that is where the checksum is compared
    return data[10 + int.from_bytes(data[8:10], "little") :]


def _opened(path: Path, archive: zipfile.ZipFile, filename: str, n_bytes: int) -> bytes:
    """The first bytes of a member; all for -1."""
    try:
        with archive.open(filename) as file:
            return file.read(n_bytes)
    except zipfile.BadZipFile as exc:
        kind = ChecksumMismatch if "CRC" in str(exc) else BadMetadata
        raise kind(path, f"member {shorten(filename)}: {exc}; the file is damaged") from exc
    except EOFError as exc:
        raise TruncatedFile(path, f"member {shorten(filename)} ends too soon; the file was cut short") from exc
