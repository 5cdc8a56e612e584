"""Importance matrices in llama.cpp's two formats: GGUF, and the binary one before it.

GGUF: `general.type` is imatrix; of every matrix NAME.in_sum2, float32 [matrices, columns], the sums of squares of what it was multiplied
with, and NAME.counts, float32 [matrices, 1], over how many tokens. The older one holds the means times a number of calls.
Source: llama.cpp, tools/imatrix/imatrix.cpp (save_imatrix, save_imatrix_legacy), tools/quantize/quantize.cpp (load_imatrix,
load_legacy_imatrix), October 2026.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apr.convert._quantise import Importance
from apr.errors import BadMetadata, FormatError, TruncatedFile
from apr.formats import gguf
from apr.formats._base import Outgoing

_SUMS, _COUNTS = ".in_sum2", ".counts"
_MAGIC = b"GGUF"
_LEGACY_LIMIT_BYTES = 1 << 30
_MOST_ENTRIES = 1 << 20
_LONGEST_NAME = 1 << 12


@dataclass(frozen=True, slots=True)
class Collected:
    """What an importance matrix is made of.

    sums:      float32 [columns] by GGUF name: of the squares of each input column
    counts:    tokens that they are over, by GGUF name
    datasets:  what was read
    n_chunks, chunk_size: of the text, in tokens
    """

    sums: Mapping[str, np.ndarray]
    counts: Mapping[str, int]
    datasets: tuple[str, ...]
    n_chunks: int
    chunk_size: int


def write(path: Path, found: Collected) -> None:
    """Write as GGUF, as llama-imatrix does. Raises UsageError for a path that cannot be written."""
    names = sorted(found.sums)
    data: dict[str, np.ndarray] = {}
    for name in names:
        data[name + _SUMS] = np.ascontiguousarray(found.sums[name], dtype="<f4").reshape(1, -1)
        data[name + _COUNTS] = np.full((1, 1), found.counts[name], dtype="<f4")
    metadata = {
        "general.type": "imatrix",
        "imatrix.datasets": gguf.Typed("array[string]", list(found.datasets)),
        "imatrix.chunk_count": gguf.Typed("uint32", found.n_chunks),
        "imatrix.chunk_size": gguf.Typed("uint32", found.chunk_size),
    }
    specs = tuple((name, "f32", values.shape) for name, values in data.items())
    gguf.write(path, Outgoing(metadata, specs, lambda name: data[name].reshape(-1).view(np.uint8)))


def read(path: Path) -> Importance:
    """Read either format. Raises FormatError for what is neither, or holds a figure that is not finite or is negative."""
    with path.open("rb") as file:
        is_gguf = file.read(4) == _MAGIC
    found = _read_gguf(path) if is_gguf else _read_legacy(path)
    if not found.columns:
        raise BadMetadata(
            path, "holds no importance matrix: none of its entries has values; collect one with apr imatrix"
        )
    for name, columns in found.columns.items():
        if not np.isfinite(columns).all() or (columns < 0).any():
            raise BadMetadata(
                path, f"{name} holds a value that is not finite, or negative; collect it anew: apr imatrix"
            )
    return found


def _read_gguf(path: Path) -> Importance:
    with gguf.GgufFile(path) as file:
        if file.metadata.get("general.type") != "imatrix":
            said = file.metadata.get("general.type")
            raise BadMetadata(path, f"general.type is {said!r}, expected 'imatrix'; this is no importance matrix")
        columns = {}
        for name in (name.removesuffix(_SUMS) for name in file.tensors if name.endswith(_SUMS)):
            if name + _COUNTS not in file.tensors:
                raise BadMetadata(path, f"{name} has sums and no counts; collect it anew: apr imatrix")
            columns[name] = _means(file.array(name + _SUMS), file.array(name + _COUNTS), path, name)
        datasets = file.metadata.get("imatrix.datasets", ())
        n_chunks = file.metadata.get("imatrix.chunk_count", 0)
        return Importance(
            path.name, columns, tuple(map(str, datasets)), int(n_chunks) if isinstance(n_chunks, int) else 0
        )


def _means(sums: np.ndarray, counts: np.ndarray, path: Path, name: str) -> np.ndarray:
    """float32 [matrices * columns]; of a matrix that nothing passed through, ones: nothing is known of it."""
    sums = sums.reshape(counts.size, -1) if counts.size and sums.size % counts.size == 0 else sums
    if sums.ndim != 2:
        raise BadMetadata(path, f"{name} has {sums.size} sums and {counts.size} counts; collect it anew: apr imatrix")
    over = counts.reshape(-1, 1).astype(np.float32)
    means = np.divide(sums, over, out=np.ones_like(sums, dtype=np.float32), where=over > 0)
    return np.ascontiguousarray(means.reshape(-1), dtype=np.float32)


def _read_legacy(path: Path) -> Importance:
    if path.stat().st_size > _LEGACY_LIMIT_BYTES:
        raise FormatError(
            path, "is larger than any importance matrix; give one that llama-imatrix or apr imatrix wrote"
        )
    data = path.read_bytes()
    cursor = _Cursor(path, data)
    n = cursor.number(_MOST_ENTRIES, "entries")
    columns = {}
    for _ in range(n):
        name = cursor.text(cursor.number(_LONGEST_NAME, "bytes of a name"))
        calls = cursor.number(1 << 31, "calls")
        values = cursor.floats(cursor.number(len(data) // 4, "values"))
        columns[name] = values / np.float32(calls) if calls else values
    n_chunks = 0
    datasets: tuple[str, ...] = ()
    if cursor.left():
        n_chunks = cursor.number(1 << 31, "chunks")
        datasets = (cursor.text(cursor.number(_LONGEST_NAME, "bytes of a name")),) if cursor.left() else ()
    return Importance(path.name, columns, datasets, n_chunks)


class _Cursor:
    """Little-endian fields, one after the other. Raises FormatError for a count that cannot be, TruncatedFile at the end."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path, self._data, self._at = path, data, 0

    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._data) - self._at

    def number(self, most: int, what: str) -> int:
        """An int32 from 0 on."""
        (value,) = struct.unpack("<i", self._take(4))
        if not 0 <= value <= most:
            message = f"{value} {what} at byte {self._at - 4}; this is no importance matrix of llama.cpp's"
            raise FormatError(self._path, message, offset=self._at - 4)
        return int(value)

    def text(self, n_bytes: int) -> str:
        """UTF-8."""
        return self._take(n_bytes).decode("utf-8", "replace")

    def floats(self, n: int) -> np.ndarray:
        """float32 [n]."""
        return np.frombuffer(self._take(4 * n), dtype="<f4").astype(np.float32)

    def _take(self, n_bytes: int) -> bytes:
        if n_bytes > self.left():
            message = (
                f"ends at byte {len(self._data)}, {n_bytes - self.left()} bytes too early; it was cut, copy it again"
            )
            raise TruncatedFile(self._path, message, offset=self._at)
        taken = self._data[self._at : self._at + n_bytes]
        self._at += n_bytes
        return taken
