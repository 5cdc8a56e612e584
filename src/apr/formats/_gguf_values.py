"""GGUF metadata values: the thirteen types, and a cursor that checks each step against the bytes left.

Source: the GGUF specification (ggml, docs/gguf.md) and `gguf_init_from_reader` of llama.cpp. Where the two differ, what
either of them refuses is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from apr.errors import BadMetadata, BadString, LimitExceeded, TruncatedFile
from apr.formats._gguf_arrays import NumberArray, StringArray, walk_strings

MAX_KEY_BYTES = 65_535  # the specification
MAX_STRING_BYTES = 64 << 20
MAX_TOKEN_BYTES = 64 << 10
MAX_ARRAY_BYTES = 64 << 20  # of one array of numbers
MAX_STRINGS = 1 << 22  # in all arrays of a file together; the largest vocabularies need 0.8 million, merges included

STRING, ARRAY = 8, 9

# number in the file -> (name, struct code, NumPy type)
NUMBERS: dict[int, tuple[str, str, str]] = {
    0: ("uint8", "B", "u1"),
    1: ("int8", "b", "i1"),
    2: ("uint16", "H", "<u2"),
    3: ("int16", "h", "<i2"),
    4: ("uint32", "I", "<u4"),
    5: ("int32", "i", "<i4"),
    6: ("float32", "f", "<f4"),
    7: ("bool", "B", "?"),
    10: ("uint64", "Q", "<u8"),
    11: ("int64", "q", "<i8"),
    12: ("float64", "d", "<f8"),
}
NUMBER_OF = {name: number for number, (name, _, _) in NUMBERS.items()} | {"string": STRING, "array": ARRAY}

_SCALARS = {number: struct.Struct("<" + code) for number, (_, code, _) in NUMBERS.items()}
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclass(slots=True)
class Cursor:
    """A position in a header. Nothing is read, and nothing allocated, before the bytes are known to be there."""

    path: Path
    buffer: memoryview
    position: int = 0
    n_strings: int = 0
    end: int = field(init=False)

    def __post_init__(self) -> None:
        self.end = len(self.buffer)

    def need(self, n_bytes: int, what: str) -> None:
        """Raises TruncatedFile unless `n_bytes` are left."""
        left = self.end - self.position
        if n_bytes > left:
            message = (
                f"{what} needs {n_bytes:,} bytes, {left:,} are left; the download is probably cut short, fetch it again"
            )
            raise TruncatedFile(self.path, message, offset=self.position)

    def u32(self, what: str) -> int:
        """An unsigned 32-bit number."""
        number: int = self._unpack(_U32, what)
        return number

    def u64(self, what: str) -> int:
        """An unsigned 64-bit number."""
        number: int = self._unpack(_U64, what)
        return number

    def string(self, what: str, *, limit: int) -> bytes:
        """The bytes of a string behind its length. Raises LimitExceeded over `limit`, TruncatedFile beyond the end."""
        at = self.position
        length = self.u64(what)
        if length > limit:
            message = f"{what} has {length:,} bytes, at most {limit:,} are allowed; the length is corrupt"
            raise LimitExceeded(self.path, message, offset=at)
        start, self.position = self.position, self.position + length
        if self.position > self.end:
            self.position = start
            self.need(length, what)
        return bytes(self.buffer[start : self.position])

    def scalar(self, number: int, what: str) -> Any:
        """A single number of the type `number`."""
        return self._unpack(_SCALARS[number], what)

    def _unpack(self, packing: struct.Struct, what: str) -> Any:
        at, self.position = self.position, self.position + packing.size
        if self.position > self.end:
            self.position = at
            self.need(packing.size, what)
        return packing.unpack_from(self.buffer, at)[0]


def read_key(cursor: Cursor, index: int) -> str:
    """A metadata key: printable ASCII, 1 to 65,535 bytes. Raises BadString for any other."""
    at = cursor.position
    raw = cursor.string(f"key {index}", limit=MAX_KEY_BYTES)
    key = raw.decode("latin-1")
    if not raw or not (key.isascii() and key.isprintable()):
        message = f"metadata key {index} is {raw[:80]!r}; a key is printable ASCII and not empty, the header is corrupt"
        raise BadString(cursor.path, message, offset=at)
    return key


def read_value(cursor: Cursor, key: str) -> tuple[str, Any]:
    """The value of `key`, with the name of its type: "uint32", "string", "array[float32]" ...

    Numbers are Python values, text is `str`, arrays are `StringArray` or `NumberArray`.
    Raises BadMetadata for unknown types, arrays of arrays, and truth values other than 0 and 1; BadString for text that
    is not UTF-8; LimitExceeded; TruncatedFile.
    """
    at = cursor.position
    key = key if len(key) <= 80 else f"{key[:80]}..."  # for messages only, from here on
    number = cursor.u32(f"the type of {key!r}")
    if number == ARRAY:
        return _read_array(cursor, key)
    if number == STRING:
        return "string", _read_text(cursor, key)
    if number not in NUMBERS:
        message = f"{key!r} has the value type {number}, which GGUF does not define (0 to 12); the header is corrupt"
        raise BadMetadata(cursor.path, message, offset=at)
    name = NUMBERS[number][0]
    value = cursor.scalar(number, f"the value of {key!r}")
    if name == "bool":
        if value > 1:
            _refuse_bool(cursor, key, value, cursor.position - 1)
        value = value == 1
    return name, value


def _read_text(cursor: Cursor, key: str) -> str:
    at = cursor.position
    raw = cursor.string(f"the value of {key!r}", limit=MAX_STRING_BYTES)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        message = (
            f"the value of {key!r} is not UTF-8 ({error.reason} at its byte {error.start}); "
            "write the file again, or ask who made it"
        )
        raise BadString(cursor.path, message, offset=at + 8 + error.start) from error


def _read_array(cursor: Cursor, key: str) -> tuple[str, StringArray | NumberArray]:
    at = cursor.position
    number = cursor.u32(f"the element type of {key!r}")
    if number == ARRAY:
        raise BadMetadata(
            cursor.path, f"{key!r} is an array of arrays, which no reader supports; write it flat", offset=at
        )
    if number != STRING and number not in NUMBERS:
        message = f"{key!r} is an array of type {number}, which GGUF does not define (0 to 12); the header is corrupt"
        raise BadMetadata(cursor.path, message, offset=at)
    count = cursor.u64(f"the length of {key!r}")
    if number == STRING:
        return "array[string]", _read_strings(cursor, key, count)
    return f"array[{NUMBERS[number][0]}]", _read_numbers(cursor, key, number, count)


def _read_strings(cursor: Cursor, key: str, count: int) -> StringArray:
    at = cursor.position - 8
    cursor.n_strings += count
    if cursor.n_strings > MAX_STRINGS:
        message = (
            f"{key!r} brings the strings in arrays to {cursor.n_strings:,}, at most {MAX_STRINGS:,} are allowed; "
            "the count is corrupt"
        )
        raise LimitExceeded(cursor.path, message, offset=at)
    cursor.need(8 * count, f"{key!r}, an array of {count:,} strings,")
    limit = MAX_TOKEN_BYTES if key.startswith("tokenizer.ggml.") else MAX_STRING_BYTES
    strings = walk_strings(cursor.path, cursor.buffer, cursor.position, count=count, limit=limit)
    cursor.position += len(strings.encoded)
    return strings


def _read_numbers(cursor: Cursor, key: str, number: int, count: int) -> NumberArray:
    name, _, dtype = NUMBERS[number]
    n_bytes = count * np.dtype(dtype).itemsize
    if n_bytes > MAX_ARRAY_BYTES:
        message = (
            f"{key!r} is an array of {count:,} x {name}, at most {MAX_ARRAY_BYTES:,} bytes are allowed; "
            "the count is corrupt"
        )
        raise LimitExceeded(cursor.path, message, offset=cursor.position - 8)
    cursor.need(n_bytes, f"{key!r}, an array of {count:,} x {name},")
    raw = bytes(cursor.buffer[cursor.position : cursor.position + n_bytes])
    if name == "bool":
        wrong = np.flatnonzero(np.frombuffer(raw, dtype=np.uint8) > 1)
        if wrong.size:
            _refuse_bool(cursor, key, raw[int(wrong[0])], cursor.position + int(wrong[0]))
    cursor.position += n_bytes
    return NumberArray(np.frombuffer(raw, dtype=dtype), kind=name)


def _refuse_bool(cursor: Cursor, key: str, value: int, offset: int) -> None:
    message = f"{key!r} holds the truth value {value}; it is 0 or 1, the header is corrupt"
    raise BadMetadata(cursor.path, message, offset=offset)
