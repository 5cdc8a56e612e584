"""Write GGUF version 3: the header in memory, the tensors one at a time, the file whole or not at all.

What is written is read back first: the header passes the checks of `_gguf_header.parse` before a byte of it reaches the
disk, so there is one set of rules, and no file of ours that our reader refuses.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apr import _atomic
from apr.errors import ConversionError, FormatError, UnsupportedError
from apr.formats._base import Outgoing, TensorInfo
from apr.formats._ggml_types import NUMBERS as TYPE_NUMBERS
from apr.formats._ggml_types import TYPES
from apr.formats._gguf_arrays import NumberArray, StringArray
from apr.formats._gguf_header import DEFAULT_ALIGNMENT, MAGIC, MAX_ALIGNMENT, VERSION, Header, pad, parse
from apr.formats._gguf_values import ARRAY, NUMBER_OF, NUMBERS

_DTYPES = {name: np.dtype(dtype) for name, _, dtype in NUMBERS.values()}
_CODES = {name: code for name, code, _ in NUMBERS.values()}


@dataclass(frozen=True, slots=True)
class Typed:
    """A metadata value with the GGUF type to write it as: "uint32", "float64", "array[int32]", "array[string]" ..."""

    kind: str
    value: Any


def write(path: Path, model: Outgoing) -> None:
    """Write `model` to `path`, atomically, with one tensor in memory at a time.

    A metadata value is a `Typed`, or its type follows from the value: bool; int as uint32, as int32 if it is negative,
    as uint64 or int64 if it is too large for those; float as float32; str; a list as an array of what fits all its
    elements.
    The alignment is `general.alignment` of the metadata, else 32.

    Raises ConversionError for what GGUF cannot hold, for names that occur twice, and for data of the wrong length;
    UnsupportedError for a codec that ggml has no number for; UsageError for a path that cannot be written.
    """
    raw = encode_header(path, model)
    header = _check(path, raw, model)
    with _atomic.writing(path) as file:
        file.write(raw)
        for info in header.tensors.values():
            data = _data_of(path, model, info)
            file.write(data.data)
            file.write(bytes(-info.n_bytes % header.alignment))


def encode_header(path: Path, model: Outgoing) -> bytes:
    """The header of `model` with the padding before the data, not yet checked.

    Raises ConversionError, UnsupportedError.
    """
    alignment = _alignment(model)
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(model.tensors), len(model.metadata))]
    for key, value in model.metadata.items():
        typed = value if isinstance(value, Typed) else Typed(_kind_of(path, key, value), value)
        parts += [_string(path, key), _encode(path, key, typed)]
    offset = 0
    for name, codec, shape in model.tensors:
        number = TYPE_NUMBERS.get(codec)
        if number is None:
            raise UnsupportedError(
                f"{path}: tensor {name!r} is {codec!r}, which GGUF has no type for", known=sorted(TYPE_NUMBERS)
            )
        try:
            dims = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        except struct.error as error:
            raise ConversionError(
                f"{path}: tensor {name!r} has the shape {shape}; dimensions are from 1 to 2^63 - 1"
            ) from error
        parts += [_string(path, name), dims, struct.pack("<IQ", number, min(offset, 2**64 - 1))]
        offset += pad(_n_bytes(codec, shape), alignment)
    raw = b"".join(parts)
    return raw + bytes(-len(raw) % alignment)


def _alignment(model: Outgoing) -> int:
    value = model.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    alignment = value.value if isinstance(value, Typed) else value
    # any other value is refused when the header is read back; until then there must be something to divide by
    return alignment if isinstance(alignment, int) and 0 < alignment <= MAX_ALIGNMENT else DEFAULT_ALIGNMENT


def _n_bytes(codec: str, shape: tuple[int, ...]) -> int:
    kind = TYPES[TYPE_NUMBERS[codec]]
    n_elements = 1
    for size in shape:
        n_elements *= size
    return n_elements // kind.block_size * kind.block_bytes


def _check(path: Path, raw: bytes, model: Outgoing) -> Header:
    alignment = _alignment(model)
    data = sum(pad(_n_bytes(codec, shape), alignment) for _, codec, shape in model.tensors)
    try:
        return parse(path, memoryview(raw), file_size=len(raw) + data)
    except FormatError as error:
        raise ConversionError(f"the model cannot be written as GGUF: {error}") from error


def _data_of(path: Path, model: Outgoing, info: TensorInfo) -> np.ndarray:
    data = model.data(info.name)
    if data.dtype != np.uint8 or data.size != info.n_bytes:
        found, wanted = (
            f"{data.size:,} x {data.dtype}",
            f"{info.codec} of shape {info.shape} needs {info.n_bytes:,} x uint8",
        )
        raise ConversionError(f"{path}: tensor {info.name!r} has {found}, {wanted}")
    return np.ascontiguousarray(data).reshape(-1)


def _string(path: Path, text: str) -> bytes:
    if not isinstance(text, str):
        raise ConversionError(f"{path}: {text!r} is {type(text).__name__}, GGUF wants text here")
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ConversionError(f"{path}: {text[:80]!r} cannot be written as UTF-8: {error.reason}") from error
    return struct.pack("<Q", len(raw)) + raw


def _kind_of(path: Path, key: str, value: Any) -> str:
    if isinstance(value, StringArray | NumberArray):
        return f"array[{value.kind}]"
    if isinstance(value, np.ndarray | np.generic):
        name = next((name for name, dtype in _DTYPES.items() if dtype == value.dtype), None)
        if name is not None and value.ndim <= 1:
            return f"array[{name}]" if value.ndim else name
    elif isinstance(value, list | tuple):
        if value:
            return f"array[{_element_kind(path, key, list(value))}]"
        raise ConversionError(
            f"{path}: {key!r} is an empty list, whose type is unknown; give Typed('array[string]', [])"
        )
    elif isinstance(value, bool | int | float | str):
        return _element_kind(path, key, [value])
    raise ConversionError(
        f"{path}: {key!r} is {type(value).__name__}, which GGUF has no type for; leave it out, or write it as text"
    )


def _element_kind(path: Path, key: str, values: list[Any]) -> str:
    kinds = {type(value) for value in values}
    if kinds == {int}:
        low, high = min(values), max(values)
        for name, lowest, highest in (
            ("uint32", 0, 2**32),
            ("int32", -(2**31), 2**31),
            ("uint64", 0, 2**64),
            ("int64", -(2**63), 2**63),
        ):
            if lowest <= low and high < highest:
                return name
        raise ConversionError(f"{path}: {key!r} holds {low} to {high}, more than 64 bits hold; write it as text")
    common = {bool: "bool", float: "float32", str: "string"}.get(kinds.pop()) if len(kinds) == 1 else None
    if common is None:
        raise ConversionError(
            f"{path}: the elements of {key!r} have no common GGUF type: {values[:4]!r}; give a Typed of one kind"
        )
    return common


def _encode(path: Path, key: str, typed: Typed) -> bytes:
    kind, value = typed.kind, typed.value
    element = kind.removeprefix("array[").removesuffix("]")
    if kind not in (element, f"array[{element}]") or element not in NUMBER_OF or element == "array":
        raise ConversionError(
            f"{path}: {key!r} has the type {kind!r}; known: {', '.join(NUMBER_OF)} and array[...] of them"
        )
    if kind == element:
        return struct.pack("<I", NUMBER_OF[element]) + _encode_values(path, key, element, [value])
    if isinstance(value, str | bytes) or not hasattr(value, "__len__"):
        raise ConversionError(f"{path}: {key!r} shall be {kind}, and {value!r} is no list")
    body = _encode_values(path, key, element, value)
    return struct.pack("<IIQ", ARRAY, NUMBER_OF[element], len(value)) + body


def _encode_values(path: Path, key: str, kind: str, values: Any) -> bytes:
    if isinstance(values, StringArray | NumberArray) and values.kind == kind:
        return values.encoded
    if isinstance(values, np.ndarray):
        if kind in _DTYPES and values.dtype == _DTYPES[kind] and values.ndim == 1:
            return values.tobytes()
        values = values.tolist()
    if kind == "string":
        return b"".join(_string(path, value) for value in values)
    wanted: tuple[type, ...] = {
        "bool": (bool, np.bool_),
        "float32": (int, float, np.floating),
        "float64": (int, float, np.floating),
    }.get(kind, (int, np.integer))
    for value in values:
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
            raise ConversionError(f"{path}: {key!r} holds {value!r}, which is no {kind}")
    try:
        return struct.pack(f"<{len(values)}{_CODES[kind]}", *values)
    except (struct.error, OverflowError) as error:
        raise ConversionError(f"{path}: {key!r} does not fit {kind}: {error}") from error
