"""The base of ggml's quantised types, which are encoded as llama.cpp's own tool does, bit for bit.

A type's file has its definition in NumPy, `quantise`; where the compiled kernels are there, they compute the same bits
faster. Three things differ from ggml, which writes what cannot be read back: values that are not finite are refused; so are
those too large for a block's F16 scale; and a block whose importance is zero throughout is encoded as if there were none
(ggml writes zeros, or NaN), as is one whose importance overflows. A group of a K-quant's block whose importance alone is
zero is as ggml has it: in Q3_K and Q6_K, zeros.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from apr.kernels import _extension
from apr.kernels.quants import _block
from apr.kernels.quants._block import BlockCodec, in_chunks

LARGEST = 1e9  # more than any of these types can hold; sums of cubes stay below float32's end
ROWS_AT_ONCE = 1 << 10  # whose sums are made side by side


@dataclass(frozen=True, slots=True)
class Importance:
    """What the error of each element counts.

    of_elements:   float32 [n_blocks, block_size]
    mean_squares:  float32 [n_blocks]: of the values of each block's row
    """

    of_elements: np.ndarray
    mean_squares: np.ndarray


class GgmlCodec(BlockCodec):
    """A type of ggml's with one or two F16 scales in each block.

    scales_at:  the byte where each F16 scale begins
    """

    scales_at: ClassVar[tuple[int, ...]]
    uses_importance: ClassVar[bool] = True

    @abstractmethod
    def quantise(self, values: np.ndarray, importance: Importance | None, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, block_bytes], from finite float32 [n_blocks, block_size]: the definition."""

    def encode_blocks(self, values: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, block_bytes], from finite float32 [n_blocks, block_size], all of one importance."""
        self.quantise(values, None, out)

    def encode(self, values: np.ndarray, importance: np.ndarray | None = None) -> np.ndarray:
        """uint8 [n_bytes] from float32 values [..., columns].

        importance:  float32 [columns], at least 0: what the error of each column counts, as an imatrix file has it
        Raises       ValueError if rows are not whole blocks, a value is NaN, infinite or too large for a block's F16
                     scale, or the importance is not one finite number of at least 0 for each column.
        """
        if not self.row_fits(values.shape):
            raise ValueError(f"rows of {values.shape[-1]} are not whole {self.name} blocks of {self.block_size}")
        blocks = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, self.block_size)
        columns = values.shape[-1] if values.ndim else 1
        weights = None if importance is None else self._checked_importance(importance, columns)
        if weights is None or not self.uses_importance or not weights.any():
            out, is_held = self._encode(blocks, None)
        else:
            out, is_held = self._encode(blocks, weights)
            self._encode_without(blocks, weights, out)
        if not is_held:
            self._refuse(blocks, out, values.shape)
        return out.reshape(-1)

    def _checked_importance(self, importance: np.ndarray, columns: int) -> np.ndarray:
        if importance.shape != (columns,):
            raise ValueError(
                f"importance of shape {importance.shape} for {columns} columns; one number a column is needed"
            )
        weights = np.ascontiguousarray(importance, dtype=np.float32)
        wrong = np.flatnonzero(~((weights >= 0) & np.isfinite(weights)))
        if wrong.size:
            raise ValueError(
                f"the importance of column {wrong[0]} is {importance[wrong[0]]}, expected a finite number of at least 0; "
                "make the importance matrix anew"
            )
        return weights

    def _encode(self, blocks: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, bool]:
        """uint8 [n_blocks, block_bytes], and whether it holds all values."""
        native: Any = _extension.native()
        if native is None or not len(blocks):
            return self.encode_in_numpy(blocks, weights)
        rows = blocks if weights is None else blocks.reshape(-1, weights.size)
        out, is_held = native.encode(_pool(_block.MAX_THREADS), self.name, rows, weights)
        return out.reshape(-1, self.block_bytes), is_held

    def encode_in_numpy(self, blocks: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, bool]:
        """What the compiled kernels compute, by the definition.

        blocks:   float32 [n_blocks, block_size]
        weights:  float32 [columns], the importance of a row's columns
        Returns   uint8 [n_blocks, block_bytes], and whether it holds all values.
        """
        out = np.empty((len(blocks), self.block_bytes), dtype=np.uint8)
        if weights is None:
            in_chunks(self.encode_blocks, blocks, out, block_size=self.block_size)
        else:
            self._encode_weighted(blocks, weights.reshape(-1, self.block_size), out)
        is_held = len(blocks) == 0 or bool(np.abs(blocks).max() <= LARGEST)  # not if there is a NaN
        return out, is_held and bool(self._is_finite(out).all())

    def _encode_weighted(self, blocks: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
        """weights: float32 [blocks in a row, block_size]."""
        of_row = mean_squares(blocks.reshape(-1, weights.size))
        numbers = np.arange(len(blocks))[:, None]

        def convert(which: np.ndarray, target: np.ndarray) -> None:
            row, column = np.divmod(which[:, 0], len(weights))
            self.quantise(blocks[which[:, 0]], Importance(weights[column], of_row[row]), target)

        in_chunks(convert, numbers, out, block_size=self.block_size)

    def _encode_without(self, blocks: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
        """Encode once more, as if there were no importance, the blocks that it says nothing about or overflows."""
        says_nothing = np.logical_not(weights.reshape(-1, self.block_size).any(axis=1)).reshape(-1)
        again = np.tile(says_nothing, len(blocks) // len(says_nothing)) | ~self._is_finite(out)
        if again.any():
            out[again] = self._encode(blocks[again], None)[0]

    def _is_finite(self, out: np.ndarray) -> np.ndarray:
        """bool [n_blocks]: whether all scales of a block are finite."""
        fine = np.ones(len(out), dtype=np.bool_)
        for at in self.scales_at:
            fine &= (out[:, at + 1] & 0x7C) != 0x7C  # the exponent of infinities and NaN
        return fine

    def _refuse(self, blocks: np.ndarray, out: np.ndarray, shape: tuple[int, ...]) -> None:
        """Raise ValueError if there is a value that cannot be held."""
        flat = blocks.reshape(-1)
        wrong = np.flatnonzero(~np.isfinite(flat))
        if wrong.size:
            raise ValueError(
                f"element {_index(wrong[0], shape)} is {flat[wrong[0]]}, {self.name} holds finite numbers only; "
                "store the tensor as f32"
            )
        beyond = np.flatnonzero(~self._is_finite(out) | (np.abs(blocks).max(axis=1) > LARGEST))
        if beyond.size:
            first = beyond[0]
            at = int(first) * self.block_size + int(np.abs(blocks[first]).argmax())
            raise ValueError(
                f"element {_index(at, shape)} is {flat[at]:g}, too large for the F16 scale of a {self.name} block; "
                "store the tensor as f32 or bf16"
            )


def mean_squares(rows: np.ndarray) -> np.ndarray:
    """float32 [n_rows] of float32 [n_rows, columns]: summed in the order of the columns, as ggml does."""
    sums = np.zeros(len(rows), dtype=np.float32)
    with np.errstate(all="ignore"):
        for at in range(0, len(rows), ROWS_AT_ONCE):
            part, into = rows[at : at + ROWS_AT_ONCE], sums[at : at + ROWS_AT_ONCE]
            for column in np.square(part).T:
                into += column
    return sums / np.float32(rows.shape[1])


@cache
def _pool(threads: int) -> Any:
    native: Any = _extension.native()
    return native.Pool(threads)


def _index(at: int, shape: tuple[int, ...]) -> list[int]:
    return [int(i) for i in np.unravel_index(at, shape)]
