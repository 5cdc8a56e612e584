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
# bytes looked at in one go by `_leap`, and single steps after each: bounds what a hostile array can cost to a few
# times its length
_SMALLEST_WINDOW, _LARGEST_WINDOW, _STEPS = 1 << 10, 1 << 20, 16


class StringArray(Sequence[str]):
    """Strings, decoded from UTF-8 on access.

    A token need not be UTF-8 on its own. Bytes that are not become lone surrogates (`errors="surrogateescape"`), so two
    different tokens are two different strings, and `text.encode("utf-8", "surrogateescape")` gives the bytes back;
    `raw(i)` gives them directly. Negative indices and slices work as in a list.
    """

    __slots__ = ("_blob", "_starts")
    __hash__ = None  # type: ignore[assignment]  # equal to a list, which has none
    kind = "string"

    def __init__(self, blob: bytes, starts: np.ndarray) -> None:
        """blob: length-prefixed strings one after the other; starts: as the property."""
        self._blob = blob
        self._starts = starts

    @property
    def starts(self) -> np.ndarray:
        """int64 [n + 1]: where the length before each string lies in `encoded`, and the end."""
        return self._starts

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
    start = position
    starts = array("q")
    window = _SMALLEST_WINDOW
    while len(starts) < count:
        found, end = _leap(buffer[position : position + window], most=count - len(starts), limit=limit)
        starts.frombytes((found + (position - start)).tobytes())
        # as much again if the window was well used; little, and some single steps, if it was not
        window = min(2 * window, _LARGEST_WINDOW) if 2 * end > window else max(_SMALLEST_WINDOW, 2 * end)
        position += end
        for index in range(len(starts), min(count, len(starts) + _STEPS)):
            starts.append(position - start)
            position = _step(path, buffer, position, index=index, count=count, limit=limit)
    if position > len(buffer):
        raise TruncatedFile(
            path,
            f"the last of {count} strings ends at byte {position}, the file has {len(buffer)}; {_CUT_SHORT}",
            offset=len(buffer),
        )
    starts.append(position - start)
    return StringArray(bytes(buffer[start:position]), np.frombuffer(starts, dtype=np.int64))


def _leap(window: memoryview, *, most: int, limit: int) -> tuple[np.ndarray, int]:
    """Starts of strings from the window's first byte on, int64, and the end of the last: all that can be told at once.

    The upper seven bytes of a length under 256 are zero, and text hardly ever holds seven zeros. So every place that may
    be a length is found in one go, and kept up to the first that does not begin where the one before it ends: what is
    returned is what a walk finds. A longer length, or an empty string, ends the leap, and a step goes on.
    """
    nothing = np.empty(0, dtype=np.int64), 0
    if len(window) < 8 or limit < 255:
        return nothing
    data = np.frombuffer(window, dtype=np.uint8)
    zero = data == 0
    is_length = zero[1 : len(data) - 6].copy()
    for shift in range(2, 8):
        is_length &= zero[shift : len(data) - 7 + shift]
    starts = np.flatnonzero(is_length)[:most].astype(np.int64)
    if not starts.size or starts[0]:
        return nothing
    ends = starts + 8 + data[starts]
    breaks = np.flatnonzero(starts[1:] != ends[:-1])
    n_found = int(breaks[0]) + 1 if breaks.size else starts.size
    return starts[:n_found], int(ends[n_found - 1])


def _step(path: Path, buffer: memoryview, position: int, *, index: int, count: int, limit: int) -> int:
    """The end of the string whose length stands at `position`. Raises TruncatedFile or LimitExceeded."""
    if position > len(buffer) - _LENGTH.size:
        raise TruncatedFile(path, f"the file ends before string {index} of {count}; {_CUT_SHORT}", offset=position)
    (length,) = _LENGTH.unpack_from(buffer, position)
    if length > limit:
        message = (
            f"string {index} of {count} has {length:,} bytes, at most {limit:,} are allowed here; the length is corrupt"
        )
        raise LimitExceeded(path, message, offset=position)
    return position + 8 + int(length)


_CUT_SHORT = "the download is probably cut short; fetch it again"
