"""Counts of unlike events: the Poisson-binomial distribution, mixed over what a whole cluster has in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def poisson_binomial(chances: np.ndarray) -> np.ndarray:
    """float64 [n + 1]: the chance of each count of independent events that have these chances, float64 [n]."""
    counts = np.ones(1)
    for chance in chances:
        longer = np.zeros(len(counts) + 1)
        longer[:-1] = counts * (1.0 - chance)
        longer[1:] += counts * chance
        counts = longer
    return counts


def distribution(clusters: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """float64 [n + 1]: the chance of each count over several independent clusters.

    clusters:  float64 [n of the cluster, nodes] each: an event's chance in each state that the whole cluster may be in
    weights:   float64 [nodes], how likely each state is
    """
    counts = np.ones(1)
    for chances in clusters:
        mixed = sum(weight * poisson_binomial(chances[:, node]) for node, weight in enumerate(weights))
        counts = np.convolve(counts, np.asarray(mixed))
    return counts


def count_interval(counts: np.ndarray, share: float) -> tuple[int, int]:
    """The least and the greatest count of the middle `share` of a distribution."""
    below = np.cumsum(counts)
    outside = (1.0 - share) / 2.0
    low = int(np.searchsorted(below, outside))
    high = int(np.searchsorted(below, 1.0 - outside))
    return min(low, len(counts) - 1), min(high, len(counts) - 1)


def tail(counts: np.ndarray, observed: int) -> float:
    """The chance of `observed` or more."""
    return float(min(1.0, counts[observed:].sum()))
