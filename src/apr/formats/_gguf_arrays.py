"""Arrays in GGUF metadata: kept as the file's own bytes, decoded only where somebody looks.

A vocabulary has 150,000 strings and most commands read none of them. Opening a file walks over the lengths once, to
check the bounds; the text is decoded on access. Both classes own a copy of their bytes, so they outlive the mapped
file, and both keep the bytes exactly, so that a file can be written again unchanged.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import overload

import numpy as np

from apr.errors import LimitExceeded, TruncatedFile

_LENGTH = struct.Struct("<Q")


class StringArray(Sequence[str]):
    """Strings, decoded from UTF-8 on access.

    A token need not be UTF-8 on its own. Bytes that are not become lone surrogates (`errors="surrogateescape"`), so two
    different tokens are two different strings, and `text.encode("utf-8", "surrogateescape")` gives the bytes back;
    `raw(i)` gives them directly. Negative indices and slices work as in a list.
    """

    __slots__ = ("_blob", "_starts")
    __hash__ = None  # type: ignore[assignment]  # equal to a list, which has none
    kind = "string"

    def __init__(self, blob: bytes, starts: array[int]) -> None:
        """blob: length-prefixed strings one after the other; starts: n + 1 positions of the prefixes, and the end."""
        self._blob = blob
        self._starts = starts

    @property
    def encoded(self) -> bytes:
        """All strings as they lie in the file, each behind its length (uint64)."""
        return self._blob

    def raw(self, index: int) -> bytes:
        """The bytes of one string. Raises IndexError beyond the ends."""
        size = len(self)
        at = index + size if index < 0 else index
        if not 0 <= at < size:
            raise IndexError(f"string {index} of {size}")
        return self._blob[self._starts[at] + 8 : self._starts[at + 1]]

    def tolist(self) -> list[str]:
        """Every string, in one pass."""
        blob, starts = self._blob, self._starts.tolist()
        return [blob[start + 8 : stop].decode("utf-8", "surrogateescape") for start, stop in pairwise(starts)]

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.raw(index).decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StringArray):
            return self._blob == other._blob
        return self.tolist() == other if isinstance(other, list) else NotImplemented

    def __repr__(self) -> str:
        return f"StringArray({len(self)} strings)"


class NumberArray(Sequence[int | float | bool]):
    """Numbers or truth values; `numpy()` is a read-only view, an element is a plain Python value.

    kind: the GGUF type of the elements, "int32", "float32", "bool" ...
    """

    __slots__ = ("_values", "kind")
    __hash__ = None  # type: ignore[assignment]  # equal to a list, which has none

    def __init__(self, values: np.ndarray, *, kind: str) -> None:
        """values: 1-D, little-endian, of the NumPy type that `kind` names."""
        self._values = values
        self._values.flags.writeable = False
        self.kind = kind

    @property
    def encoded(self) -> bytes:
        """The numbers as they lie in the file."""
        return self._values.tobytes()

    def numpy(self) -> np.ndarray:
        """The numbers, 1-D, not writeable, no copy."""
        return self._values

    def tolist(self) -> list[int | float | bool]:
        """Every number as a Python value."""
        values: list[int | float | bool] = self._values.tolist()
        return values

    def __len__(self) -> int:
        return int(self._values.size)

    @overload
    def __getitem__(self, index: int) -> int | float | bool: ...
    @overload
    def __getitem__(self, index: slice) -> list[int | float | bool]: ...
    def __getitem__(self, index: int | slice) -> int | float | bool | list[int | float | bool]:
        picked: int | float | bool | list[int | float | bool] = self._values[index].tolist()
        return picked

    def __iter__(self) -> Iterator[int | float | bool]:
        return iter(self.tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, NumberArray):
            return self.kind == other.kind and self.encoded == other.encoded
        return self.tolist() == other if isinstance(other, list) else NotImplemented

    def __repr__(self) -> str:
        return f"NumberArray({len(self)} x {self.kind})"


def walk_strings(path: Path, buffer: memoryview, position: int, *, count: int, limit: int) -> StringArray:
    """Check the bounds of `count` length-prefixed strings from `position` on and take a copy of them, without decoding.

    limit:  most bytes that one string may have
    Raises  TruncatedFile or LimitExceeded, with the byte of the length that is wrong.
    """
    start, last = position, len(buffer) - _LENGTH.size
    starts = array("q")
    keep, length_at = starts.append, _LENGTH.unpack_from
    for index in range(count):
        keep(position - start)
        if position > last:
            raise TruncatedFile(path, f"the file ends before string {index} of {count}; {_CUT_SHORT}", offset=position)
        (length,) = length_at(buffer, position)
        if length > limit:
            message = (
                f"string {index} of {count} has {length:,} bytes, at most {limit:,} are allowed here; "
                "the length is corrupt"
            )
            raise LimitExceeded(path, message, offset=position)
        position += 8 + length
    if position > len(buffer):
        raise TruncatedFile(
            path,
            f"the last of {count} strings ends at byte {position}, the file has {len(buffer)}; {_CUT_SHORT}",
            offset=len(buffer),
        )
    keep(position - start)
    return StringArray(bytes(buffer[start:position]), starts)


_CUT_SHORT = "the download is probably cut short; fetch it again"
