"""Layers that are unlike their neighbours, by median and MAD: what trained models do at most was measured, not chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# fewer layers say nothing about what is usual
LEAST_LAYERS = 8
# of the residual from the four layers around, in robust standard deviations. Healthy layers have at most 5.3 inside, and
# 15.2 among the first and last two, which are often unlike all others: SmolLM2-135M, Qwen2.5-Coder-0.5B, Gemma-3-270M
MOST_INSIDE, MOST_AT_THE_ENDS = 12.0, 30.0
# the MAD of a normal distribution, in standard deviations
_MAD_PER_SIGMA = 1.4826
_REACH = 2


@dataclass(frozen=True, slots=True)
class Outlier:
    """One layer out of line.

    deviation:  of its value from the median of those around it
    z:          the same in robust standard deviations of all layers; bound: what z may be
    """

    layer: int
    deviation: float
    z: float
    bound: float


def outliers(values: Mapping[int, float], *, floor: float) -> list[Outlier]:
    """Layers whose value is far from the median of the four around it.

    values:  layer -> figure, with an additive scale (a logarithm, a share)
    floor:   least standard deviation that counts, above zero: layers that are all alike would make any difference an outlier
    """
    layers = sorted(values)
    if len(layers) < LEAST_LAYERS:
        return []
    row = np.array([values[layer] for layer in layers])
    residuals = np.array([row[i] - np.median(_around(row, i)) for i in range(len(row))])
    sigma = max(floor, _MAD_PER_SIGMA * float(np.median(np.abs(residuals))))
    found = []
    for i, layer in enumerate(layers):
        is_inside = _REACH <= i < len(layers) - _REACH
        bound = MOST_INSIDE if is_inside else MOST_AT_THE_ENDS
        z = abs(float(residuals[i])) / sigma
        if z > bound:
            found.append(Outlier(layer, float(residuals[i]), z, bound))
    return found


def _around(row: np.ndarray, i: int) -> np.ndarray:
    """float64 [up to 4]: the values of the layers beside layer i."""
    beside: np.ndarray = np.concatenate([row[max(0, i - _REACH) : i], row[i + 1 : i + 1 + _REACH]])
    return beside
