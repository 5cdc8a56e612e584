"""Many strings in one block of bytes: decoded where somebody looks, compared and searched all at once.

A vocabulary has 150,000 entries and as many merges, and a prompt uses a few hundred of them. Python objects for all take
longer to make than the model takes to load, so the bytes of a file are kept as they are, and each string has a key: a
64-bit mix of all its bytes. Equal strings have equal keys; unequal ones almost always differ, and who relies on that
compares the bytes, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import overload

import numpy as np

from apr.formats._gguf_arrays import StringArray

_CHUNK = 1 << 13  # strings at a time: what is computed of them stays in a processor's cache
_WORD = 8  # bytes taken at once
_GAP = bytes(_WORD)
_FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(_WORD + 1)], dtype=np.uint64)
# odd, with well mixed bits: from the golden ratio, and from the finaliser of MurmurHash3
_MIX = np.uint64(0x9E3779B97F4A7C15)
_STIR = np.uint64(0xC4CEB9FE1A85EC53)
_HALF = np.uint64(32)


class Strings(Sequence[str]):
    """Strings, decoded from UTF-8 on access; bytes that are not UTF-8 are lone surrogates (`surrogateescape`).

    block:    uint8: 8 zero bytes before each string and behind the last
    starts:   int64 [n], of each string in the block
    lengths:  int64 [n], in bytes
    """

    __hash__ = None  # type: ignore[assignment]  # equal to a list, which has none

    def __init__(self, block: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        self.block = block
        self.starts = starts
        self.lengths = lengths

    @classmethod
    def of(cls, strings: Sequence[str]) -> Strings:
        """The same strings in a block. Raises UnicodeEncodeError for a surrogate that stands for no byte."""
        if isinstance(strings, Strings):
            return strings
        if isinstance(strings, StringArray):
            return cls._of_array(strings)
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        block = _GAP.join([b"", *encoded, b""])
        starts = np.cumsum(lengths + _WORD) - lengths
        return cls(np.frombuffer(block, dtype=np.uint8), starts, lengths)

    @classmethod
    def _of_array(cls, strings: StringArray) -> Strings:
        """A copy of the file's bytes, with the length before each string made 8 zero bytes."""
        encoded = strings.encoded
        block = np.zeros(len(encoded) + _WORD, dtype=np.uint8)
        block[: len(encoded)] = np.frombuffer(encoded, dtype=np.uint8)
        at = strings.starts[:-1]
        lengths = np.diff(strings.starts) - _WORD
        block[at] = 0
        long = at[lengths > 255]  # only their lengths have a second byte
        for byte in range(1, _WORD):
            block[long + byte] = 0
        return cls(block, at + _WORD, lengths)

    @cached_property
    def keys(self) -> np.ndarray:
        """uint64 [n]: a key for each string."""
        return keys_of(self.block, self.starts, self.lengths)

    @cached_property
    def order(self) -> np.ndarray:
        """int64 [n]: indices by ascending key; `sorted_keys` are the keys in this order."""
        return np.argsort(self.keys)

    @cached_property
    def sorted_keys(self) -> np.ndarray:
        """uint64 [n]: the keys, ascending."""
        found: np.ndarray = self.keys[self.order]
        return found

    @cached_property
    def has_duplicates(self) -> bool:
        """Whether a string occurs twice."""
        ties = self.sorted_keys[1:] == self.sorted_keys[:-1]
        if not ties.any():
            return False
        suspects = self.order[np.append(ties, False) | np.insert(ties, 0, False)].tolist()
        return len({self.raw(i) for i in suspects}) < len(suspects)

    @cached_property
    def is_text(self) -> bool:
        """Whether all strings are UTF-8."""
        try:
            for part in self.parts():
                str(part.block.data, "utf-8")
        except UnicodeDecodeError:
            return False
        return True

    def parts(self) -> Iterator[Strings]:
        """The same strings, some thousand to a block."""
        for at in range(0, len(self), _CHUNK):
            starts, lengths = self.starts[at : at + _CHUNK], self.lengths[at : at + _CHUNK]
            begin, end = starts[0] - _WORD, starts[-1] + lengths[-1] + _WORD
            yield Strings(self.block[begin:end], starts - begin, lengths)

    def indices_of(self, keys: np.ndarray) -> list[int]:
        """Indices of the strings that have one of these keys (uint64, ascending, distinct), in order of key."""
        first = np.searchsorted(self.sorted_keys, keys)
        stop = np.searchsorted(self.sorted_keys, keys, side="right")
        is_here = np.flatnonzero(first < stop)
        ranges = zip(first[is_here].tolist(), stop[is_here].tolist(), strict=True)
        return [index for a, b in ranges for index in self.order[a:b].tolist()]

    def raw(self, index: int) -> bytes:
        """The bytes of one string. Raises IndexError beyond the ends."""
        start = self.starts[index]
        return self.block[start : start + self.lengths[index]].tobytes()

    def tolist(self) -> list[str]:
        """Every string, in one pass."""
        block = self.block.tobytes()
        if np.count_nonzero(self.block) == self.lengths.sum():  # no string holds a zero byte
            return block.decode("utf-8", "surrogateescape").split(_GAP.decode())[1:-1]
        starts, stops = self.starts.tolist(), (self.starts + self.lengths).tolist()
        return [block[a:b].decode("utf-8", "surrogateescape") for a, b in zip(starts, stops, strict=True)]

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:
        """As that of a list."""
        return self.tolist().index(value, start, len(self) if stop is None else stop)

    def __len__(self) -> int:
        return int(self.starts.size)

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

    def __contains__(self, value: object) -> bool:
        return value in self.tolist()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Strings):
            return self.tolist() == other.tolist()
        return self.tolist() == other if isinstance(other, list) else NotImplemented

    def __repr__(self) -> str:
        return f"Strings({len(self)})"


def keys_of(block: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """uint64 [n]: a key for each stretch of a block.

    block:            uint8, with at least 8 bytes behind the last stretch
    starts, lengths:  int64 [n]
    """
    # the 8 bytes from every place on, as numbers
    words = np.ndarray(block.size - _WORD + 1, dtype="<u8", buffer=block, strides=(1,))
    keys = np.empty(starts.size, dtype=np.uint64)
    for at in range(0, starts.size, _CHUNK):
        part = slice(at, at + _CHUNK)
        _mix_into(keys[part], words, starts[part], lengths[part])
    return keys


def _mix_into(keys: np.ndarray, words: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
    first_bytes = _FIRST_BYTES[np.minimum(lengths, _WORD)]
    keys[:] = words[starts] & first_bytes
    keys *= _MIX
    keys ^= keys >> _HALF
    # the last 8 bytes; of a shorter string, what the first word was
    keys ^= words[starts + np.maximum(lengths - _WORD, 0)] & first_bytes
    keys *= _STIR
    keys ^= lengths.view(np.uint64)
    between = np.flatnonzero(lengths > 2 * _WORD)
    at = _WORD
    while between.size:
        more = keys[between] ^ words[starts[between] + at]
        more *= _MIX
        keys[between] = more ^ (more >> _HALF)
        at += _WORD
        between = between[lengths[between] > at + _WORD]
