"""A tensor read a few rows at a time: decoded values, with what its encoding's rounding allows; transformed if asked.

A vector is one row, so that everything behind this file is [rows, columns]. Only the bytes of the rows asked for are
decoded, in whatever order they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from apr.kernels import quants
from apr.kernels.quants._block import BlockCodec
from apr.models._checkpoint import Place
from apr.parity._rounding_bounds import Allowance, allowance

# values of both sides, their bounds and the temporaries between them: some 8 MB a thread
CHUNK_ELEMENTS = 1 << 16
_SUM_ERROR = np.float32(2.0**-23)  # of a norm's 1 + w, as a share of the sum


@dataclass(frozen=True, slots=True)
class Rows:
    """float32 [n, columns], and for each value how far its original may lie from it."""

    values: np.ndarray
    allowance: Allowance


class Readable(Protocol):
    """Something with rows."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def read(self, rows: slice | np.ndarray) -> Rows:
        """Some rows: a slice of step 1, or int64 indices."""


class Tensor:
    """A tensor of a file under its canonical layout.

    Raises UnsupportedError, from `read`, for a codec that is not decoded here; HostileFile for a file that shrinks.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        shape = place.info.shape
        self.shape = (int(np.prod(shape[:-1])), shape[-1]) if len(shape) > 1 else (1, place.info.n_elements)

    def read(self, rows: slice | np.ndarray) -> Rows:
        """Rows in canonical order, a norm's 1 added."""
        if not self._has_rows_of_bytes:
            whole = self._whole
            return Rows(whole.values[rows], whole.allowance.each(lambda part: part[rows]))
        raw, shape = self._encoded(rows)
        codec = self.place.info.codec
        values = quants.codec(codec).decode(raw, shape)
        return self._offset(Rows(values, allowance(codec, raw, values)))

    def values(self, rows: slice | np.ndarray) -> np.ndarray:
        """float32 [n, columns]: the decoded values alone."""
        if not self._has_rows_of_bytes:
            return self._whole.values[rows]
        found = quants.codec(self.place.info.codec).decode(*self._encoded(rows))
        return found + np.float32(self.place.norm_offset) if self.place.norm_offset else found

    def release(self) -> None:
        """Give up the memory of the file's pages, which have been read."""
        self.place.release()
        vars(self).pop("_whole", None)

    @property
    def _has_rows_of_bytes(self) -> bool:
        info = self.place.info
        if len(info.shape) < 2:
            return False
        return self.shape[1] % max(1, quants.codec(info.codec).block_size) == 0

    @cached_property
    def _whole(self) -> Rows:
        info, order = self.place.info, self.place.row_order
        raw = self.place.file.raw(info.name)
        values = self.place.file.array(info.name)
        found = Rows(values, allowance(info.codec, raw, values))
        if order is not None:
            found = Rows(values[order], found.allowance.each(lambda part: part[order]))
        shape = self.shape
        allowed = found.allowance.each(lambda part: part.reshape(shape))
        return self._offset(Rows(found.values.reshape(shape), allowed))

    def _encoded(self, rows: slice | np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """uint8, the bytes of some rows, and their shape."""
        info, order = self.place.info, self.place.row_order
        raw = self.place.file.raw(info.name)
        scale = 4 if info.codec == "apr_q8" else 0  # one for the tensor, before all rows
        table = raw[scale:].reshape(self.shape[0], -1)
        found = table[rows] if order is None else table[order[rows]]
        shape = (found.shape[0], self.shape[1])
        return (np.concatenate([raw[:scale], found.reshape(-1)]) if scale else found), shape

    def _offset(self, rows: Rows) -> Rows:
        if not self.place.norm_offset:
            return rows
        values = rows.values + np.float32(self.place.norm_offset)
        return Rows(values, _widened(rows.allowance, np.abs(values) * _SUM_ERROR))


@dataclass(frozen=True)
class Transform:
    """What was done to a tensor: transposed, then cut into another shape, then rows and columns chosen, then multiplied,
    then added to.

    rows, columns:  int64: row i is the original's row rows[i]; None leaves them
    factor:         a number, float32 [rows, 1] or float32 [1, columns]
    offset:         a number
    """

    is_transposed: bool = False
    shape: tuple[int, int] | None = None
    rows: np.ndarray | None = None
    columns: np.ndarray | None = None
    factor: float | np.ndarray = 1.0
    offset: float = 0.0


class Transformed:
    """A tensor as it would be after a transform; its rounding is transformed with it."""

    def __init__(self, original: Readable, transform: Transform) -> None:
        is_moved = transform.is_transposed or transform.shape is not None
        self.original = _Turned(original, transform) if is_moved else original
        self.transform = transform
        rows, columns = self.original.shape
        t = transform
        self.shape = (rows if t.rows is None else t.rows.size, columns if t.columns is None else t.columns.size)

    def read(self, rows: slice | np.ndarray) -> Rows:
        """Rows of the result."""
        t = self.transform
        found = self.original.read(rows if t.rows is None else t.rows[rows])
        if t.columns is not None:
            columns = t.columns
            allowed = found.allowance.each(lambda part: part[:, columns])
            # blocks are torn apart: none is looked at as a whole
            found = Rows(found.values[:, columns], replace(allowed, refitted=0))
        if isinstance(t.factor, np.ndarray):
            found = _multiplied(found, t.factor[rows] if t.factor.shape[0] > 1 else t.factor)
        elif t.factor != 1.0:
            found = _multiplied(found, np.full((1, 1), t.factor, dtype=np.float32))
        if t.offset:
            values = found.values + np.float32(t.offset)
            allowed = replace(found.allowance, is_centred=False)
            found = Rows(values, _widened(allowed, np.abs(values) * _SUM_ERROR))
        return found


class _Turned:
    """A matrix along its other side, or in another shape. It is held whole."""

    def __init__(self, original: Readable, transform: Transform) -> None:
        whole = original.read(slice(0, original.shape[0]))

        def turned(part: np.ndarray) -> np.ndarray:
            part = np.broadcast_to(part, whole.values.shape)
            part = part.T if transform.is_transposed else part
            return np.ascontiguousarray(part if transform.shape is None else part.reshape(transform.shape))

        values = turned(whole.values)
        self.shape: tuple[int, int] = values.shape
        self._whole = Rows(values, replace(whole.allowance.each(turned), refitted=0))

    def read(self, rows: slice | np.ndarray) -> Rows:
        return Rows(self._whole.values[rows], self._whole.allowance.each(lambda part: part[rows]))


def chunks(shape: tuple[int, int]) -> list[slice]:
    """Runs of rows of about CHUNK_ELEMENTS elements."""
    step = max(1, CHUNK_ELEMENTS // max(1, shape[1]))
    return [slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]


def first_rows(tensor: Tensor, n_rows: int) -> Readable:
    """The tensor without the rows behind the first `n_rows`."""
    return tensor if n_rows == tensor.shape[0] else _Head(tensor, n_rows)


def certain(tensor: Readable, *, but_for: float = 0.0) -> Readable:
    """The tensor as if its values were the original's: no rounding of its own is allowed for.

    but_for:  the share of each value by which a copy of it may have been rounded before the candidate was made of it
    """
    return _Certain(tensor, but_for)


class _Certain:
    """Something without rounding of its own."""

    def __init__(self, original: Readable, share: float) -> None:
        self.original = original
        self.share = np.float32(share)
        self.shape = original.shape

    def read(self, rows: slice | np.ndarray) -> Rows:
        values = self.original.read(rows).values
        nothing = np.zeros((), dtype=np.float32)
        allowed = np.abs(values) * self.share if self.share else nothing
        return Rows(values, Allowance(nothing, allowed, allowed))


def copied(tensor: Readable, codec: str) -> Readable:
    """The tensor as a copy of it in `codec` holds it, a plain floating-point type: what models pass through on their way."""
    return _Copied(tensor, quants.codec(codec))


class _Copied:
    """Something rounded to a plain floating-point type, with the allowance it had before."""

    def __init__(self, original: Readable, codec: BlockCodec) -> None:
        self.original = original
        self.codec = codec
        self.shape = original.shape

    def read(self, rows: slice | np.ndarray) -> Rows:
        found = self.original.read(rows)
        values = self.codec.decode(self.codec.encode(found.values).reshape(-1), found.values.shape)
        return replace(found, values=values)


class _Head:
    """The first rows of something."""

    def __init__(self, original: Readable, n_rows: int) -> None:
        self.original = original
        self.shape = (n_rows, original.shape[1])

    def read(self, rows: slice | np.ndarray) -> Rows:
        return self.original.read(rows)


def _multiplied(rows: Rows, factor: np.ndarray) -> Rows:
    """factor: float32 that spreads over the values."""
    scaled = rows.allowance.each(lambda part: part * np.abs(factor))
    below, above = np.where(factor < 0, scaled.above, scaled.below), np.where(factor < 0, scaled.below, scaled.above)
    values = rows.values * factor
    # the factor is estimated from the tensors: its last digits are not the true ones
    return Rows(values, _widened(replace(scaled, below=below, above=above), np.abs(values) * np.float32(4e-6)))


def _widened(allowed: Allowance, by: np.ndarray) -> Allowance:
    return replace(allowed, below=allowed.below + by, above=allowed.above + by)
