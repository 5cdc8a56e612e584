"""The searches for scales: what they find is near the best there is, and the parts they are made of."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from apr.kernels.quants import _fit


def groups(n: int = 50, size: int = 16) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((size, n)).astype(np.float32)


def errors(x: np.ndarray, approximation: np.ndarray, weights: np.ndarray) -> np.ndarray:
    found: np.ndarray = (weights * np.square(approximation - x)).sum(axis=0)
    return found


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (0.50000006, 1), (4194302.7, 4194303)]
)
def test_the_nearest_integer_takes_ties_to_even(value: float, expected: int) -> None:
    assert _fit.nearest_int(np.float32([value])).tolist() == [expected]


def test_beyond_its_range_the_nearest_integer_is_what_the_source_makes_of_it() -> None:
    with np.errstate(all="ignore"):
        found = _fit.nearest_int(np.float32([np.inf, -np.inf, np.nan, -np.nan]))
    assert found.tolist() == [-4194304, -4194304, 0, 0]


def test_a_total_is_made_from_the_first_term_to_the_last() -> None:
    terms = np.float32([[1e8], [1], [1], [-1e8]])
    assert _fit.total(terms).tolist() == [0.0] and _fit.total(terms[[0, 3, 1, 2]]).tolist() == [2.0]


def test_of_equal_magnitudes_the_first_is_the_largest() -> None:
    largest, magnitude = _fit.largest_magnitude(np.float32([[1, -3, 0], [-3, 3, -0.0], [3, 2, 0]]))
    assert largest.tolist() == [-3, -3, 0] and magnitude.tolist() == [3, 3, 0] and not np.signbit(largest[2])


def test_of_zeros_the_first_is_the_least_and_the_most() -> None:
    low, high = _fit.extremes(np.float32([[-0.0, 0.0], [0.0, -0.0]]))
    assert np.signbit(low).tolist() == np.signbit(high).tolist() == [True, False]


def test_a_signed_fit_is_no_worse_than_the_plain_one() -> None:
    x, weights = groups(), np.abs(groups()) + 1
    scale, quants = _fit.signed(x, weights, 8)
    assert quants.min() >= 0 and quants.max() <= 15
    plain = _fit.largest_magnitude(x)[0] / -8
    theirs = np.clip(np.round(x / plain), -8, 7) * plain
    assert (errors(x, scale * (quants - 8), weights) <= errors(x, theirs, weights) * 1.000001).all()


def test_a_fit_by_turns_is_seldom_worse_than_all_scales_of_a_grid() -> None:
    x = groups(500)
    weights = np.square(x)
    scale, quants = _fit.signed_by_turns(x, 4)
    found = errors(x, scale * (quants - 4), weights)
    largest = _fit.largest_magnitude(x)[0]
    grid = [errors(x, np.clip(np.round(x * i / -largest), -4, 3) * -largest / i, weights) for i in (3.7, 4.0, 4.3)]
    assert (found <= np.min(grid, axis=0)).mean() > 0.8


@pytest.mark.parametrize("is_guarded", [False, True])
def test_a_fit_with_a_minimum_is_no_worse_than_from_end_to_end(is_guarded: bool) -> None:
    x, weights = groups(), np.abs(groups()) + 1
    scale, minimum, quants = _fit.with_minimum(x, weights, 15, first=-1, step=0.1, n_steps=20, is_guarded=is_guarded)
    assert quants.min() >= 0 and quants.max() <= 15 and (minimum >= 0).all()
    low = x.min(axis=0)
    step = (x.max(axis=0) - low) / 15
    theirs = np.round((x - low) / step) * step + low
    assert (errors(x, scale * quants - minimum, weights) <= errors(x, theirs, weights) * 1.000001).all()


def test_more_values_make_a_smaller_error() -> None:
    x = groups()
    weights = np.ones_like(x)
    totals = []
    for top in (3, 15, 31):
        scale, minimum, quants = _fit.with_minimum(x, weights, top, first=-0.9, step=0.05, n_steps=36)
        totals.append(errors(x, scale * quants - minimum, weights).sum())
    assert all(finer < coarser / 2 for coarser, finer in pairwise(totals))


def test_a_positive_fit_finds_exact_multiples() -> None:
    multiples = np.random.default_rng(2).integers(0, 64, (8, 30))
    multiples[0] = 63
    x = (np.float32(0.125) * multiples).astype(np.float32)
    scale, quants = _fit.positive(x, np.ones_like(x), 63)
    assert np.array_equal(quants, multiples) and np.array_equal(scale, np.full(30, 0.125, np.float32))


def test_a_group_of_zeros_has_the_scale_zero() -> None:
    x = np.zeros((16, 2), dtype=np.float32)
    with np.errstate(all="ignore"):
        fits = (_fit.signed(x, x, 4), _fit.signed_by_turns(x, 4), _fit.positive(x, x, 15))
        scale, minimum, quants = _fit.with_minimum(x, x, 3, first=-0.5, step=0.1, n_steps=15)
    for found, q in (*fits, (scale, quants), (minimum, quants)):
        assert not found.any() and not q.any()
