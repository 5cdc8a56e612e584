"""What rounding cost one tensor: cosine, relative error, the worst block; and whether fewer bits would have cost less.

A block codec of b bits leaves an error that hangs on b far more than on the weights: whoever is off its ladder, or worse than the type
below, was not rounded but damaged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from apr.kernels import quants
from apr.parity._weights_census import Match
from apr.parity._weights_rows import Tensor, chunks

# by bits: each is held against the first type of another width below it that its rows fit
DESCENDING = (
    ("q8_0",), ("q6_k",), ("q5_k", "q5_1", "q5_0"), ("q4_k", "q4_1", "q4_0"), ("q3_k",), ("q2_k",),
)  # fmt: skip
# relative L2 error beyond which a type's rounding does not go: twice what normally distributed weights lose to ggml's own quantisers
# (0.0055, 0.018, 0.041 at the worst of its width, 0.091, 0.15, 0.31), and room for weights with heavier tails
LADDER = {
    "q8_0": 0.015, "q6_k": 0.045, "q5_k": 0.09, "q5_1": 0.09, "q5_0": 0.1, "q4_k": 0.18, "q4_1": 0.18, "q4_0": 0.22, "q3_k": 0.35,
    "q2_k": 0.7,
}  # fmt: skip
_FLOAT_LADDER = {"f32": 0.0, "f16": 2.0**-10, "bf16": 2.0**-7}
_PLAIN_BLOCK = 32
_ON_A_GRID = 4


@dataclass(frozen=True, slots=True)
class TensorLoss:
    """What one tensor lost.

    tensor:          canonical name
    codec:           what it became
    cosine:          of all its values as one vector; null where the original is all zero
    relative_error:  L2 of the difference over L2 of the original; null likewise
    max_abs:         of the difference
    worst_block:     the largest relative error of a block, as a share of the L2 of an average block
    worst_row, worst_column: where that block begins
    ladder:          the relative error that this type does not go beyond
    below:           the type of fewer bits that it was held against; null where there is none
    below_error:     what the same values lose to that type
    refusal:         why this is no rounding; null if it may be one
    """

    tensor: str
    codec: str
    cosine: float | None
    relative_error: float | None
    max_abs: float
    worst_block: float
    worst_row: int
    worst_column: int
    ladder: float
    below: str | None = None
    below_error: float | None = None
    refusal: str | None = None


def measure(match: Match) -> TensorLoss:
    """Compare the values of two tensors. Raises UnsupportedError for a codec that is not decoded here."""
    reference, candidate = Tensor(match.reference), Tensor(match.candidate)
    codec = match.candidate.info.codec
    block = quants.codec(codec).block_size if quants.codec(codec).block_size > 1 else _PLAIN_BLOCK
    below = _below(codec, reference.shape)
    sums = _Sums(block, below)
    n_rows = match.n_rows if match.n_rows is not None else reference.shape[0]
    for rows in chunks((n_rows, reference.shape[1])):
        sums.add(rows.start, reference.read(rows).values, candidate.read(rows).values)
    return sums.loss(match.name, codec)


class _Sums:
    """Sums over the rows that were seen."""

    def __init__(self, block: int, below: str | None) -> None:
        self._block, self._below = block, below
        self._aa = self._bb = self._ab = self._dd = self._below_dd = 0.0
        self._max_abs = 0.0
        self._n_blocks = 0
        self._worst = (0.0, 0, 0)

    def add(self, start: int, reference: np.ndarray, candidate: np.ndarray) -> None:
        """Some rows more, float32 [n, columns] each."""
        difference = candidate - reference
        self._aa += _dot(reference, reference)
        self._bb += _dot(candidate, candidate)
        self._ab += _dot(reference, candidate)
        self._dd += _dot(difference, difference)
        self._max_abs = max(self._max_abs, float(difference.max(initial=0.0)), -float(difference.min(initial=0.0)))
        self._find_worst(start, difference)
        if self._below is not None:
            codec = quants.codec(self._below)
            lost = codec.decode(codec.encode(reference), reference.shape) - reference
            self._below_dd += _dot(lost, lost)

    def loss(self, name: str, codec: str) -> TensorLoss:
        """What they come to."""
        norm = math.sqrt(self._aa)
        error = math.sqrt(self._dd) / norm if norm else None
        both = norm * math.sqrt(self._bb)
        below_error = math.sqrt(self._below_dd) / norm if norm and self._below is not None else None
        of_average = norm / math.sqrt(self._n_blocks) if self._n_blocks else 0.0
        ladder = LADDER.get(codec, _FLOAT_LADDER.get(codec, math.inf))
        worst, row, column = self._worst
        return TensorLoss(
            tensor=name,
            codec=codec,
            cosine=self._ab / both if both else None,
            relative_error=error,
            max_abs=self._max_abs,
            worst_block=worst / of_average if of_average else 0.0,
            worst_row=row,
            worst_column=column,
            ladder=ladder,
            below=self._below if below_error is not None else None,
            below_error=below_error,
            refusal=_refusal(codec, error, ladder, self._below, below_error),
        )

    def _find_worst(self, start: int, difference: np.ndarray) -> None:
        rows, columns = difference.shape
        n = -(-columns // self._block)
        if columns % self._block:
            difference = np.pad(difference, ((0, 0), (0, n * self._block - columns)))
        blocks = difference.reshape(rows, n, self._block)
        errors = np.sqrt(np.einsum("rnb,rnb->rn", blocks, blocks))
        self._n_blocks += rows * n
        at = int(errors.argmax())
        if (found := float(errors.reshape(-1)[at])) > self._worst[0]:
            self._worst = (found, start + at // n, at % n * self._block)


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    """The sum of products, of each row in float32, of all in float64. Not by BLAS, whose threads wait for each other."""
    return float(np.einsum("rc,rc->r", a, b).sum(dtype=np.float64))


def _refusal(
    codec: str, error: float | None, ladder: float, below: str | None, below_error: float | None
) -> str | None:
    if error is None:
        return None
    if not error <= ladder:
        return f"a relative error of {error:.3g}, and {codec} does not go beyond {ladder:.3g}"
    # values that were rounded before lie on a grid that fewer bits may fit as well: they then lose far less than is usual
    is_usual = below is not None and below_error is not None and below_error > LADDER[below] / _ON_A_GRID
    if is_usual and below_error is not None and error >= below_error:
        return f"a relative error of {error:.3g}, and {below} with fewer bits loses {below_error:.3g}"
    return None


def _below(codec: str, shape: tuple[int, int]) -> str | None:
    """The first type of fewer bits that the rows fit; None for a type that is on no ladder."""
    widths = [i for i, names in enumerate(DESCENDING) if codec in names]
    if not widths:
        return None
    below = (name for names in DESCENDING[widths[0] + 1 :] for name in names)
    return next((name for name in below if shape[1] % quants.codec(name).block_size == 0), None)
