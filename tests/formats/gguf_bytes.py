"""GGUF files as hand-made bytes, with the place of every field, for tests that break one of them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
SCALARS: dict[int, Any] = {
    0: 200,
    1: -100,
    2: 65000,
    3: -30000,
    4: 4_000_000_000,
    5: -7,
    6: 0.5,
    7: True,
    10: 2**60,
    11: -(2**60),
    12: 0.1,
}


@dataclass(slots=True)
class Builder:
    """Bytes, the named fields in them (offset, length), and the owner of each: `meta:key`, `tensor:name`, `count` ..."""

    raw: bytearray = field(default_factory=bytearray)
    fields: dict[str, tuple[int, int]] = field(default_factory=dict)
    owners: list[tuple[int, int, str]] = field(default_factory=list)

    def put(self, name: str, code: str, value: Any) -> Builder:
        packed = struct.pack("<" + code, value)
        self.fields[name] = (len(self.raw), len(packed))
        self.raw += packed
        return self

    def text(self, name: str, raw: bytes) -> Builder:
        self.put(f"{name}.length", "Q", len(raw))
        self.fields[f"{name}.bytes"] = (len(self.raw), len(raw))
        self.raw += raw
        return self

    def head(self, n_tensors: int, n_kv: int, *, version: int = 3) -> Builder:
        self.raw += b"GGUF"
        self.put("version", "I", version).put("n_tensors", "Q", n_tensors).put("n_kv", "Q", n_kv)
        self.owners.append((0, len(self.raw), "head"))
        return self

    def pair(self, key: str | bytes, kind: int, value: Any, *, element: int = -1) -> Builder:
        """One metadata pair; for an array (kind 9) `value` is a list and `element` the type of its elements."""
        start = len(self.raw)
        raw_key = key if isinstance(key, bytes) else key.encode()
        label = raw_key.decode("latin-1")
        self.text(f"{label}.key", raw_key).put(f"{label}.kind", "I", kind)
        if kind == 9:
            self.put(f"{label}.element", "I", element).put(f"{label}.count", "Q", len(value))
            for index, item in enumerate(value):
                self._value(f"{label}.{index}", element, item)
        else:
            self._value(f"{label}.value", kind, value)
        self.owners.append((start, len(self.raw), f"meta:{label}"))
        return self

    def _value(self, name: str, kind: int, value: Any) -> None:
        if kind == 8:
            self.text(name, value if isinstance(value, bytes) else value.encode())
        else:
            self.put(name, CODES[kind], value)

    def tensor(self, name: str | bytes, dims: tuple[int, ...], kind: int, offset: int) -> Builder:
        start = len(self.raw)
        raw_name = name if isinstance(name, bytes) else name.encode()
        label = raw_name.decode("latin-1")
        self.text(f"{label}.name", raw_name).put(f"{label}.n_dims", "I", len(dims))
        for index, size in enumerate(dims):
            self.put(f"{label}.dim{index}", "Q", size)
        self.put(f"{label}.type", "I", kind).put(f"{label}.offset", "Q", offset)
        self.owners.append((start, len(self.raw), f"tensor:{label}"))
        return self

    def data(self, n_bytes: int, *, alignment: int = 32) -> bytes:
        """The whole file, with `n_bytes` of data behind the padded header."""
        padding = bytes(-len(self.raw) % alignment)
        return bytes(self.raw) + padding + bytes(i * 37 % 251 for i in range(n_bytes))

    def owner(self, offset: int) -> str:
        """Whose byte this is."""
        return next((name for start, stop, name in self.owners if start <= offset < stop), "padding")


def tiny() -> tuple[Builder, bytes]:
    """A good file: every scalar type, arrays of every type, three tensors of three codecs, alignment stated."""
    built = Builder().head(3, 2 + len(SCALARS) * 2 + 2)
    built.pair("general.architecture", 8, "llama").pair("general.alignment", 4, 32)
    for kind, value in SCALARS.items():
        built.pair(f"scalar.{kind}", kind, value).pair(f"array.{kind}", 9, [value, type(value)(0)], element=kind)
    built.pair("tokenizer.ggml.tokens", 9, [b"a", b"\xff\xfe", b"", "né".encode()], element=8).pair(
        "array.empty", 9, [], element=5
    )
    # 12 bytes of 32, 2 x 34 of 96, 32 of 32
    built.tensor("a.weight", (3,), 0, 0).tensor("b.weight", (32, 2), 8, 32).tensor("c.weight", (2, 2, 4), 1, 128)
    return built, built.data(160)


def one(
    dims: tuple[int, ...] = (8,), *, kind: int = 0, offset: int = 0, name: str | bytes = "t", n_bytes: int = 32
) -> bytes:
    """A file with one tensor and no metadata."""
    return Builder().head(1, 0).tensor(name, dims, kind, offset).data(n_bytes)


def meta(key: str | bytes, kind: int, value: Any, *, element: int = -1) -> bytes:
    """A file with one metadata pair and one tensor."""
    return Builder().head(1, 1).pair(key, kind, value, element=element).tensor("t", (8,), 0, 0).data(32)


def with_alignment(alignment: int) -> bytes:
    """A file that states this alignment, and keeps to it where that can be done."""
    step = alignment if 0 < alignment < 4096 else 32
    return (
        Builder()
        .head(1, 1)
        .pair("general.alignment", 4, alignment)
        .tensor("t", (8,), 0, 0)
        .data(max(32, step), alignment=step)
    )


def two(second: str = "u", *, offset: int = 32) -> bytes:
    """A file with two tensors of 32 bytes."""
    return Builder().head(2, 0).tensor("t", (8,), 0, 0).tensor(second, (8,), 0, offset).data(64)
