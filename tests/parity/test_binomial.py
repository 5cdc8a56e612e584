"""Counts of unlike events, against enumeration and against the binomial distribution."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np

from apr.parity._binomial import count_interval, distribution, poisson_binomial, tail


def test_equal_chances_give_the_binomial_distribution() -> None:
    expected = [comb(6, k) * 0.3**k * 0.7 ** (6 - k) for k in range(7)]
    assert np.allclose(poisson_binomial(np.full(6, 0.3)), expected)


def test_unlike_chances_give_what_enumeration_gives() -> None:
    chances = np.array([0.1, 0.5, 0.9, 0.2])
    expected = np.zeros(5)
    for outcome in product((0, 1), repeat=4):
        expected[sum(outcome)] += np.prod([c if o else 1 - c for c, o in zip(chances, outcome, strict=True)])
    assert np.allclose(poisson_binomial(chances), expected)


def test_events_of_a_cluster_move_together() -> None:
    certain_or_never = np.array([[0.0, 1.0]] * 4)
    counts = distribution([certain_or_never, certain_or_never], np.array([0.5, 0.5]))
    assert np.allclose(counts, [0.25, 0, 0, 0, 0.5, 0, 0, 0, 0.25])


def test_the_interval_holds_its_share() -> None:
    counts = poisson_binomial(np.full(100, 0.1))
    low, high = count_interval(counts, 0.99)
    assert counts[low : high + 1].sum() >= 0.99
    assert counts[low + 1 : high + 1].sum() < 0.99 or counts[low:high].sum() < 0.99


def test_the_tail_is_the_chance_of_so_many_or_more() -> None:
    assert tail(np.array([0.5, 0.3, 0.2]), 1) == 0.5
    assert tail(np.array([0.5, 0.3, 0.2]), 0) == 1.0
