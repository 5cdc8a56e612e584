"""Orders of rows: found by projections, called by their names."""

from __future__ import annotations

import numpy as np
import pytest

from apr.models._checkpoint import deinterleaved_rows, interleaved_rows
from apr.parity._permutations import MOST_ROWS, known, match, match_values, name, ranges


def projections(n: int = 96, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 32)).astype(np.float32)


def test_a_permutation_is_found_behind_noise() -> None:
    rows, order = projections(), np.random.default_rng(1).permutation(96)
    noisy = rows[order] + 0.2 * projections(seed=2)
    found = match(rows, noisy, np.arange(96))
    assert found is not None and np.array_equal(found, order)


def test_rows_that_come_from_nowhere_have_no_order() -> None:
    assert match(projections(), projections(seed=3), np.arange(96)) is None


def test_rows_that_are_in_their_places_have_no_order() -> None:
    assert match(projections(), projections(), np.arange(96)) is None


def test_of_very_many_rows_a_shift_is_found_in_a_sample() -> None:
    rows = projections(MOST_ROWS + 500)
    found = match(rows, np.roll(rows, 3, axis=0), np.arange(rows.shape[0]))
    assert found is not None and found[10] == 7
    assert match(rows, rows[np.random.default_rng(0).permutation(rows.shape[0])], np.arange(rows.shape[0])) is None


def test_values_of_a_vector_are_matched_by_their_rank() -> None:
    values = projections().reshape(-1)
    order = np.random.default_rng(1).permutation(values.size)
    assert np.array_equal(match_values(values, values[order]), order)


PLACES = np.arange(64)


@pytest.mark.parametrize(
    "order, head_dim, kind, words",
    [
        (interleaved_rows(64, 4), 16, "interleaved", "halves of each head are interleaved"),
        (deinterleaved_rows(64, 4), 16, "deinterleaved", "as if its halves were interleaved"),
        (np.concatenate([PLACES[:16], interleaved_rows(16, 1) + 16, PLACES[32:]]), 16, "interleaved", "in heads 1"),
        (PLACES.reshape(4, 16)[[0, 2, 1, 3]].reshape(-1), 16, "heads", "heads 1-2"),
        (PLACES.reshape(4, 2, 8)[:, ::-1].reshape(-1), 16, "halves", "halves of each head are exchanged"),
        (np.roll(PLACES, 32), None, "halves", "two halves of rows are exchanged"),
        (PLACES[::-1], None, "reversed", "reverse"),
        (np.roll(PLACES, -5), None, "shifted", "by 5"),
        (np.roll(PLACES, 5), None, "shifted", "by -5"),
        (PLACES.reshape(2, 2, 16)[:, ::-1].reshape(-1), None, "blocks", "block of 32 rows they come as 16, 17"),
        (np.random.default_rng(0).permutation(64), None, "rows", "of 64 rows are in other places"),
        (np.where(PLACES == 9, 40, PLACES), None, "rows", "1 of 64 rows are copies"),
    ],
)
def test_an_order_is_called_by_its_name(order: np.ndarray, head_dim: int | None, kind: str, words: str) -> None:
    found = name(order, head_dim=head_dim)
    assert found.kind == kind and words in found.phrase


def test_the_orders_that_converters_make_undo_each_other() -> None:
    there, back, _ = known(64, 4)
    assert np.array_equal(there[back], PLACES)
    assert [order.size for order in known(63, None)] == []


def test_numbers_are_shown_as_ranges() -> None:
    assert ranges(np.array([3, 8, 9, 10, 11])) == "3, 8-11"
    assert ranges(np.arange(0, 20, 2)) == "0, 2, 4, 6 and 6 more ranges"
