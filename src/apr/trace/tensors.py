"""A trace as `.safetensors`: the trace's JSON is metadata, the slots are float32 tensors in the order of the pass.

The header comes first in such a file and names shapes that are known only when the slots come, one by one: room is left
for it, and what it does not need is filled with spaces, as the format allows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from apr.errors import BadMetadata, InternalError, LimitExceeded, UnknownDtype
from apr.formats._base import MappedFile, TensorInfo
from apr.formats._json import shorten
from apr.formats.safetensors import MAX_HEADER_BYTES, read_weights

_ALIGNMENT = 64  # of the data: a line of the cache
# how much longer a shape may be written than the two numbers that were announced: [7,960] as [7,15,64]
_ROOM_FOR_A_SHAPE = 48


class Writer:
    """Writes tensors one by one into a file that is open for writing, and the header at the end."""

    def __init__(
        self, file: IO[bytes], path: Path, key: str, text: str, layout: Sequence[tuple[str, tuple[int, ...]]]
    ) -> None:
        self._file = file
        self._entries: dict[str, Any] = {"__metadata__": {key: text}}
        self._end = 0
        sizes = [4 * int(np.prod(shape)) for _, shape in layout]
        ends = np.cumsum(sizes).tolist()
        draft = self._entries | {
            name: _entry(shape, end - size, end) for (name, shape), size, end in zip(layout, sizes, ends, strict=True)
        }
        n_bytes = 8 + len(_encoded(draft)) + _ROOM_FOR_A_SHAPE * len(layout)
        self._header_bytes = -(-n_bytes // _ALIGNMENT) * _ALIGNMENT - 8
        if self._header_bytes > MAX_HEADER_BYTES:
            message = (
                f"a header of {self._header_bytes} bytes, the format's limit is {MAX_HEADER_BYTES}; choose fewer slots"
            )
            raise LimitExceeded(path, message)
        file.seek(8 + self._header_bytes)

    def put(self, name: str, values: np.ndarray) -> None:
        """Add a float32 array."""
        self._entries[name] = _entry(values.shape, self._end, self._end + values.nbytes)
        self._end += values.nbytes
        self._file.write(values.data)

    def finish(self) -> None:
        """Write the header into the room that was left for it."""
        text = _encoded(self._entries)
        if len(text) > self._header_bytes:
            raise InternalError(f"a header of {len(text)} bytes, {self._header_bytes} were left for it")
        self._file.seek(0)
        self._file.write(self._header_bytes.to_bytes(8, "little") + text.ljust(self._header_bytes))

    def abandon(self) -> None:
        """Nothing is held."""


class Reader:
    """An opened file, mapped."""

    def __init__(self, mapped: MappedFile, text: bytes, infos: dict[str, TensorInfo]) -> None:
        self.text = text
        self.shapes = {name: info.shape for name, info in infos.items()}
        self._mapped, self._infos = mapped, infos

    def array(self, name: str) -> np.ndarray:
        """float32 [shape], a view of the file. Raises HostileFile if the file became shorter."""
        info = self._infos[name]
        values: np.ndarray = self._mapped.bytes_at(info.offset, info.n_bytes).view("<f4").reshape(info.shape)
        return values

    def close(self) -> None:
        """Release the file."""
        self._mapped.close()


def read(path: Path, *, key: str) -> Reader:
    """Open a file. Raises FormatError; UsageError if there is no file."""
    mapped = MappedFile(path)
    try:
        metadata, infos = read_weights(mapped)
        if key not in metadata:
            raise BadMetadata(path, f"no {key!r} in its metadata: these are tensors, and not a trace")
        for info in infos.values():
            if info.codec != "f32":
                raise UnknownDtype(path, f"slot {shorten(info.name)} is {info.codec}, expected f32")
        return Reader(mapped, metadata[key].encode("utf-8"), infos)
    except BaseException:
        mapped.close()
        raise


def has_key(path: Path, key: str) -> bool:
    """Whether the first bytes of a file are those of a safetensors header that may have a key in its metadata."""
    with path.open("rb") as file:
        n = int.from_bytes(file.read(8), "little")
        return n <= MAX_HEADER_BYTES and json.dumps(key).encode() in file.read(n)


def _entry(shape: Sequence[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [int(size) for size in shape], "data_offsets": [begin, end]}


def _encoded(entries: dict[str, Any]) -> bytes:
    return json.dumps(entries, separators=(",", ":")).encode()
