"""What every container of tensors shows: tensors by name, metadata, and the bytes, read as hostile input.

A reader validates the whole header before it hands out anything, checks every count and offset against the bytes
left in the file before it allocates, and raises one error class per violated rule (`apr.errors`), with the byte offset.
Tensor data is memory-mapped and decoded only when asked for.
"""

from __future__ import annotations

import mmap
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from apr.errors import HostileFile, UnsupportedError, UsageError
from apr.kernels import quants

MAX_DIMS = 8


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies, and what it is.

    name:     as the file has it (`models` maps it to the canonical name)
    codec:    the name of its encoding: a file of `kernels/quants`, or the format's own word for one we cannot decode
    shape:    row-major, slowest dimension first: [out_features, in_features]
    offset:   bytes from the start of the file at `path` to the tensor's first byte
    n_bytes:  length of its data, without padding
    path:     the file that holds it (one shard of several, for sharded models)
    """

    name: str
    codec: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int
    path: Path

    @property
    def n_elements(self) -> int:
        """Number of values; 1 for a scalar."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, slots=True)
class Warned:
    """Something legal that a careful reader should know: a code that never changes, and a sentence."""

    code: str
    message: str


class MappedFile:
    """A plain file, mapped read-only. Refuses links to devices, pipes, folders, and files that change size."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise UsageError(f"{path}: no such file")
        if not stat.S_ISREG(path.stat().st_mode):
            raise HostileFile(path, "not a regular file; give the path of a model file")
        self.path = path
        with path.open("rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            # an empty file cannot be mapped; an empty buffer lets each format say "truncated" in its own words
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size else None
        self.buffer = memoryview(self._map) if self._map is not None else memoryview(b"")

    def bytes_at(self, offset: int, n_bytes: int) -> np.ndarray:
        """uint8 [n_bytes]: a view of the mapped file, never a copy.

        Raises HostileFile if the file has become shorter since it was opened (reading on would kill the process).
        """
        if self.path.stat().st_size < offset + n_bytes:
            raise HostileFile(
                self.path, "the file became shorter while it was read; wait for its writer, then try again"
            )
        return np.frombuffer(self.buffer, dtype=np.uint8, count=n_bytes, offset=offset)

    def release(self, offset: int, n_bytes: int) -> None:
        """Give up the memory of whole pages of a range that has been read; they are read from disk again when needed."""
        if self._map is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        start = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        stop = (offset + n_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if start < stop:
            self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)

    def close(self) -> None:
        """Unmap, unless arrays still look at the bytes; they keep the mapping alive then."""
        try:
            self.buffer.release()
            if self._map is not None:
                self._map.close()
        except BufferError:
            pass


class ModelFile(ABC):
    """An opened model: tensors, metadata and side files, from one container or a folder of shards.

    format:     "gguf", "safetensors" or "apr"
    metadata:   the container's own key-value pairs, keys as the file has them
    documents:  side files by name, parsed: "config.json", "generation_config.json", "tokenizer_config.json" are dicts,
                "tokenizer.json" and "chat_template.jinja" are text; empty for single-file formats
    warnings:   what is legal and still worth knowing
    """

    format: str

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: Mapping[str, Any] = {}
        self.documents: Mapping[str, Any] = {}
        self.tensors: dict[str, TensorInfo] = {}
        self.warnings: list[Warned] = []
        self._maps: dict[Path, MappedFile] = {}

    def map(self, path: Path) -> MappedFile:
        """The mapping of one of the model's files, opened once."""
        if path not in self._maps:
            self._maps[path] = MappedFile(path)
        return self._maps[path]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold tensors, in a fixed order."""
        return tuple(sorted({info.path for info in self.tensors.values()} | set(self._maps)))

    @property
    def size_bytes(self) -> int:
        """Bytes on disk of all files that hold tensors."""
        return sum(path.stat().st_size for path in self.files)

    def raw(self, name: str) -> np.ndarray:
        """uint8 [n_bytes]: a tensor's encoded bytes, as a view of the mapped file."""
        info = self.tensors[name]
        return self.map(info.path).bytes_at(info.offset, info.n_bytes)

    def release(self, name: str, start: int, stop: int) -> None:
        """Give up the memory of bytes [start, stop) of a tensor, which have been read and copied."""
        info = self.tensors[name]
        self.map(info.path).release(info.offset + start, stop - start)

    def array(self, name: str) -> np.ndarray:
        """float32 [shape]: a tensor, decoded. A view of the file for aligned F32 data, else a new array.

        Raises UnsupportedError for an encoding without a codec.
        """
        info = self.tensors[name]
        if info.codec not in quants.names():
            raise UnsupportedError(
                f"{self.path}: tensor {name!r} is {info.codec}, which is not decoded here", known=quants.names()
            )
        return quants.codec(info.codec).decode(self.raw(name), info.shape)

    @abstractmethod
    def verify(self) -> list[str]:
        """Check every checksum that the format has over the data; return what was checked, one sentence each.

        Raises ChecksumMismatch. An empty list means that the format has no checksum: that is not a pass.
        """

    def close(self) -> None:
        """Release the mappings."""
        for mapped in self._maps.values():
            mapped.close()
        self._maps.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A whole model on its way to disk: what a format's `write` takes.

    metadata:   key-value pairs in the target format's own words, in the order they shall be written
    documents:  side files, for formats that have them
    tensors:    (name, codec, shape row-major), in the order of the data
    data:       gives the encoded bytes (uint8, 1-D) of one tensor by name, called once per tensor and in order, so
                that memory stays near one tensor
    """

    metadata: Mapping[str, Any]
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]
    data: Callable[[str], np.ndarray]
    documents: Mapping[str, Any] = field(default_factory=dict)
