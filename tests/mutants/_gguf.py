"""A GGUF file in parts that can be changed and put together again, by `struct` alone.

Written from the format's specification (ggml, docs/gguf.md) and not with our reader or writer, which are under test.
Values of keys are kept as their bytes until they are asked for, so that a vocabulary of 150,000 costs nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ALIGNMENT = 32
STRING, ARRAY, BOOL = 8, 9, 7
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", BOOL: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass
class Tensor:
    """One tensor: GGML type number, row-major shape, encoded bytes (uint8, 1-D)."""

    kind: int
    shape: tuple[int, ...]
    data: np.ndarray


class GgufParts:
    """Keys as (type, bytes) and tensors, in the order of the file."""

    def __init__(self, path: Path) -> None:
        self._raw = np.memmap(path, dtype=np.uint8, mode="r")
        self._view = memoryview(self._raw)  # type: ignore[arg-type]
        assert bytes(self._view[:4]) == b"GGUF"
        self.version, n_tensors, n_keys = struct.unpack_from("<IQQ", self._view, 4)
        at = 24
        self.keys: dict[str, tuple[int, bytes]] = {}
        for _ in range(n_keys):
            name, at = self._text(at)
            (kind,) = struct.unpack_from("<I", self._view, at)
            end = self._end(kind, at + 4)
            self.keys[name] = (kind, bytes(self._view[at + 4 : end]))
            at = end
        found = []
        for _ in range(n_tensors):
            name, at = self._text(at)
            (n_dims,) = struct.unpack_from("<I", self._view, at)
            dims = struct.unpack_from(f"<{n_dims}Q", self._view, at + 4)
            kind, offset = struct.unpack_from("<IQ", self._view, at + 4 + 8 * n_dims)
            at += 16 + 8 * n_dims
            found.append((name, kind, tuple(reversed(dims)), offset))
        start = -(-at // ALIGNMENT) * ALIGNMENT
        self.data_start = start
        self.offsets = {name: start + offset for name, _, _, offset in found}
        self.tensors: dict[str, Tensor] = {}
        for name, kind, shape, offset in found:
            size = n_bytes(kind, shape)
            self.tensors[name] = Tensor(kind, shape, np.asarray(self._raw[start + offset : start + offset + size]))

    def get(self, key: str) -> Any:
        """A key's value; a list for an array. Raises KeyError."""
        kind, raw = self.keys[key]
        return _decoded(kind, raw, 0)[0]

    def set(self, key: str, value: Any, *, kind: int | None = None, item: int | None = None) -> None:
        """Set a key, with the type that it has, or `kind` (and `item`, an array's) for a new one."""
        if key in self.keys and kind is None:
            kind, raw = self.keys[key]
            if kind == ARRAY and item is None:
                (item,) = struct.unpack_from("<I", raw)
        assert kind is not None, f"{key} is new: say its type"
        self.keys[key] = (kind, _encoded(kind, value, item))

    def write(self, path: Path) -> Path:
        """Write the parts."""
        header = [b"GGUF", struct.pack("<IQQ", self.version, len(self.tensors), len(self.keys))]
        for name, (kind, raw) in self.keys.items():
            header += [_packed_text(name), struct.pack("<I", kind), raw]
        offset = 0
        for name, tensor in self.tensors.items():
            dims = tuple(reversed(tensor.shape))
            header += [_packed_text(name), struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, tensor.kind, offset)]
            offset += -(-tensor.data.size // ALIGNMENT) * ALIGNMENT
        head = b"".join(header)
        with path.open("wb") as file:
            file.write(head + bytes(-len(head) % ALIGNMENT))
            for tensor in self.tensors.values():
                file.write(np.ascontiguousarray(tensor.data).data)
                file.write(bytes(-tensor.data.size % ALIGNMENT))
        return path

    def _text(self, at: int) -> tuple[str, int]:
        (length,) = struct.unpack_from("<Q", self._view, at)
        return bytes(self._view[at + 8 : at + 8 + length]).decode("utf-8", "surrogateescape"), at + 8 + length

    def _end(self, kind: int, at: int) -> int:
        if kind == STRING:
            return at + 8 + int(struct.unpack_from("<Q", self._view, at)[0])
        if kind != ARRAY:
            return at + struct.calcsize("<" + SCALARS[kind])
        item, count = struct.unpack_from("<IQ", self._view, at)
        at += 12
        if item in SCALARS:
            return at + int(count) * struct.calcsize("<" + SCALARS[item])
        for _ in range(count):
            at = self._end(item, at)
        return at


def n_bytes(kind: int, shape: tuple[int, ...]) -> int:
    """Encoded size of a tensor: block sizes are gguf-py's."""
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    return int(np.prod(shape, dtype=np.int64)) // int(block) * int(size)


def _packed_text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def _decoded(kind: int, raw: bytes, at: int) -> tuple[Any, int]:
    if kind == STRING:
        (length,) = struct.unpack_from("<Q", raw, at)
        return raw[at + 8 : at + 8 + length].decode("utf-8", "surrogateescape"), at + 8 + length
    if kind != ARRAY:
        return struct.unpack_from("<" + SCALARS[kind], raw, at)[0], at + struct.calcsize("<" + SCALARS[kind])
    item, count = struct.unpack_from("<IQ", raw, at)
    at += 12
    if item in SCALARS:
        form = f"<{count}{SCALARS[item]}"
        return list(struct.unpack_from(form, raw, at)), at + struct.calcsize(form)
    values = []
    for _ in range(count):
        value, at = _decoded(item, raw, at)
        values.append(value)
    return values, at


def _encoded(kind: int, value: Any, item: int | None) -> bytes:
    if kind == STRING:
        return _packed_text(value)
    if kind != ARRAY:
        return struct.pack("<" + SCALARS[kind], value)
    assert item is not None
    head = struct.pack("<IQ", item, len(value))
    if item in SCALARS:
        return head + struct.pack(f"<{len(value)}{SCALARS[item]}", *value)
    return head + b"".join(_encoded(item, entry, None) for entry in value)
