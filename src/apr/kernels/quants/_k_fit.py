"""What the K-quants' encoders share: weights of elements, scales in few bits, and quants anew for those scales."""

from __future__ import annotations

import numpy as np

from apr.kernels.quants import _fit
from apr.kernels.quants._ggml import Importance


def groups_of(values: np.ndarray, size: int) -> np.ndarray:
    """float32 [size, n_blocks * groups], contiguous: a group a column, from [n_blocks, block_size]."""
    return np.ascontiguousarray(values.reshape(-1, size).T)


def mean_square(values: np.ndarray, factor: int) -> np.ndarray:
    """float32 [n_blocks, 1]: factor times the mean of the squares of each block."""
    total = _fit.total(np.square(values).T)
    return (np.float32(factor) * total / np.float32(values.shape[1]))[:, None]


def importance_of_groups(values: np.ndarray, importance: Importance, size: int, *, factor: int) -> np.ndarray:
    """float32 [size, n_groups]: importance times sqrt(factor * mean square of the block + the element's square)."""
    squares = mean_square(values, factor) + np.square(values)
    return groups_of(importance.of_elements * np.sqrt(squares), size)


def requantise(
    groups: np.ndarray, quants: np.ndarray, factor: np.ndarray, minimum: np.ndarray | None, *, low: int, high: int
) -> np.ndarray:
    """uint8 [size, n_groups]: quants for the scales as they are stored, from `low` on, less `low`.

    groups, quants:   float32 and int32 [size, n_groups]; a group whose factor is 0 keeps its quants
    factor, minimum:  float32 [n_groups]
    """
    moved = groups if minimum is None else groups + minimum
    anew = np.clip(_fit.nearest_int(moved / factor), low, high) - low
    kept: np.ndarray = np.where(factor != 0, anew, quants).astype(np.uint8)
    return kept


def blocks_of(quants: np.ndarray, n_blocks: int) -> np.ndarray:
    """uint8 [n_blocks, block_size], contiguous: the inverse of `groups_of`."""
    return np.ascontiguousarray(quants.T).reshape(n_blocks, -1)


def first_largest(scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n_blocks] each: of [n_blocks, groups], the first of the largest magnitude, and that magnitude."""
    return _fit.largest_magnitude(np.ascontiguousarray(scales.T))


def few_positive(numbers: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale, float32 [n_blocks], and multiples of it, int32 [n_blocks, groups]: the largest number becomes `top`."""
    largest = np.maximum(numbers.max(axis=1), np.float32(0))
    inverse = np.where(largest > 0, np.float32(top) / largest, np.float32(0))
    return largest / np.float32(top), _fit.nearest_int(inverse[:, None] * numbers)


def few_weighted(numbers: np.ndarray, weights: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by ggml-quants.c, make_qp_quants. weights: float32 [groups, n_blocks], the sum of each group's."""
    scale, columns = _fit.positive(np.ascontiguousarray(numbers.T), weights, top)
    return scale, np.ascontiguousarray(columns.T)
