"""Whether two tensors are the same bytes: the comparison that a lossless copy passes without being decoded."""

from __future__ import annotations

import numpy as np

from apr.models._checkpoint import Place, are_same

_AT_ONCE = 1 << 22


def same_bytes(a: Place, b: Place, *, n_rows: int | None = None) -> bool:
    """Whether one encoding holds the same bytes, rows in canonical order.

    n_rows:  only so many rows; None for all, and then the shapes must be equal
    """
    if a.info.codec != b.info.codec or a.norm_offset != b.norm_offset:
        return False
    if n_rows is None and a.info.shape != b.info.shape:
        return False
    is_same_order = _same_order(a.row_order, b.row_order)
    if is_same_order and _location(a) == _location(b):
        return True
    first, second = a.file.raw(a.info.name), b.file.raw(b.info.name)
    if n_rows is not None:
        first, second = (_head(place, raw, n_rows) for place, raw in ((a, first), (b, second)))
    if is_same_order:
        return are_same(first, second)
    rows = a.info.shape[0]
    if first.size != second.size or first.size % rows:
        return False
    step = max(1, _AT_ONCE // max(1, first.size // rows))
    return all(
        np.array_equal(_rows(a, first, slice(at, at + step)), _rows(b, second, slice(at, at + step)))
        for at in range(0, rows, step)
    )


def _rows(place: Place, raw: np.ndarray, rows: slice) -> np.ndarray:
    table = raw.reshape(place.info.shape[0], -1)
    return table[rows] if place.row_order is None else table[place.row_order[rows]]


def _head(place: Place, raw: np.ndarray, n_rows: int) -> np.ndarray:
    rows = place.info.shape[0]
    return raw[: raw.size // rows * n_rows] if raw.size % rows == 0 else raw


def _location(place: Place) -> tuple[object, int, int]:
    return place.info.path, place.info.offset, place.info.n_bytes


def _same_order(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.array_equal(a, b))
