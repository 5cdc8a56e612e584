"""Rounds of measurements: whatever is compared takes its turn in every round, so that what disturbs one disturbs all.

Absolute figures drift by a tenth on shared machines; the ratio of two neighbours in the same round drifts far less.
Claims are therefore medians of per-round ratios.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Segment:
    """One measurement: the figure, what the contestant answered, and how many cores others kept busy meanwhile."""

    value: float
    answer: Mapping[str, Any]
    others_cores: float | None


@dataclass(frozen=True, slots=True)
class Rounds:
    """What was measured: for each entry one segment a round, and the read bandwidth beside each round."""

    segments: Mapping[str, Sequence[Segment]]
    bandwidth: Sequence[float | None]

    def values(self, name: str) -> list[float]:
        """The figures of an entry, round by round."""
        return [segment.value for segment in self.segments[name]]

    def answers(self, name: str, key: str) -> list[float]:
        """One of the figures that an entry answered, round by round."""
        return [float(segment.answer[key]) for segment in self.segments[name]]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure measured several times.

    median, min, max: of the values
    values:           in the order of the rounds
    """

    median: float
    min: float
    max: float
    values: tuple[float, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Ratio:
    """What one is to another, round by round.

    median, min, max: of the ratios within each round
    interval:         95 %, of the median; null for fewer rounds than it takes
    """

    median: float
    min: float
    max: float
    interval: tuple[float, float] | None


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most, and the values in order."""
    return Spread(statistics.median(values), min(values), max(values), tuple(values))


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """What each round's figure is to the other's of the same round."""
    return [a / b for a, b in zip(values, others, strict=True) if b]


def ratio(values: Sequence[float], others: Sequence[float]) -> Ratio:
    """The per-round ratios of two entries of one contest."""
    found = ratios(values, others)
    return Ratio(statistics.median(found), min(found), max(found), median_interval(found))


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """An interval that holds the median with 95 %, whatever the distribution; None for fewer than six values.

    Of n values the median lies between the k-th least and the k-th most unless fewer than k fall on one side of it, and
    each falls on either side like a coin: the largest k with 2 P(Bin(n, 1/2) < k) ≤ 5 %.
    """
    n, k, below = len(values), 0, 0.0
    while True:
        below += math.comb(n, k) / 2**n
        if 2 * below > 1 - CONFIDENCE:
            break
        k += 1
    ordered = sorted(values)
    return (ordered[k - 1], ordered[n - k]) if k else None


def limit_fractions(values: Sequence[float], bytes_per_token: int, bandwidth: Sequence[float | None]) -> list[float]:
    """Bytes read a second, as each round's rate implies, over the bandwidth beside it (GB/s); rounds without one left out."""
    return [v * bytes_per_token / (b * 1e9) for v, b in zip(values, bandwidth, strict=True) if b]


def limit_fraction(values: Sequence[float], bytes_per_token: int, bandwidth: Sequence[float | None]) -> float | None:
    """The median of `limit_fractions`."""
    fractions = limit_fractions(values, bytes_per_token, bandwidth)
    return statistics.median(fractions) if fractions else None


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The same names, beginning with another one."""
    by %= len(names)
    return [*names[by:], *names[:by]]


def one_round(entries: Mapping[str, Callable[[], Segment]], number: int, segments: Mapping[str, list[Segment]]) -> None:
    """Every entry once, appended to its segments; each round begins with another one."""
    for name in rotated(list(entries), number):
        segments[name].append(entries[name]())


def interleaved(
    heats: Mapping[str, Mapping[str, Callable[[], Segment]]],
    *,
    rounds: int,
    before: Callable[[], float | None],
) -> Iterator[dict[str, Rounds]]:
    """Run every entry of every heat once a round; after each round, what has been measured so far.

    The entries of a heat are neighbours in time, because they are what is compared; each round begins with another one.
    before:  called before each round; its result is the round's bandwidth
    """
    segments: dict[str, dict[str, list[Segment]]] = {
        heat: {name: [] for name in entries} for heat, entries in heats.items()
    }
    bandwidth: list[float | None] = []
    for i in range(rounds):
        bandwidth.append(before())
        for heat in rotated(list(heats), i):
            one_round(heats[heat], i, segments[heat])
        yield {heat: Rounds(segments[heat], bandwidth) for heat in heats}


def in_turns(entries: Mapping[str, Callable[[], Segment]], *, rounds: int) -> dict[str, list[Segment]]:
    """One heat without a read of memory in between, after one round to warm up."""
    segments: dict[str, list[Segment]] = {name: [] for name in entries}
    for i in range(-1, rounds):
        one_round(entries, i, segments if i >= 0 else {name: [] for name in entries})
    return segments
