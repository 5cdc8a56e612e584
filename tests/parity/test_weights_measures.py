"""Measures of two tensors: figures that are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from apr.parity._weights_measures import Pool, damage, judge, judge_whole, survey
from parity.weight_subjects import Held


def values(rows: int = 40, columns: int = 64, *, seed: int = 0) -> np.ndarray:
    return (0.05 * np.random.default_rng(seed).standard_normal((rows, columns))).astype(np.float32)


def test_equal_tensors_differ_in_nothing() -> None:
    found = judge(Held(values()), Held(values()), slice(0, 40))
    assert (found.n, found.n_differing, found.rel_l2, found.noise, found.bias) == (2560, 0, 0.0, 0.0, 0.0)
    assert found.cosine == pytest.approx(1)


def test_figures_of_a_known_difference() -> None:
    moved = values()
    moved[7, 9] += 1
    found = judge_whole(Held(values()), Held(moved), Pool(1))
    assert (found.n_beyond, found.worst[1:3], found.max_abs) == (1, (7, 9), pytest.approx(1))
    assert found.rel_l2 == pytest.approx(1 / np.linalg.norm(values().astype(np.float64)), rel=1e-5)


def test_rounding_has_the_noise_of_rounding_and_no_bias() -> None:
    found = judge_whole(Held(values(400)), Held(values(400), "q8_0"), Pool(1))
    assert found.n_beyond == 0 and found.noise == pytest.approx(1, abs=0.05)
    assert abs(found.bias) < 0.05 and abs(found.outward) < 0.05


def test_values_that_are_cut_off_are_biased_towards_zero() -> None:
    cut = (values(400).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    found = judge_whole(Held(values(400)), Held(cut, "bf16"), Pool(1))
    assert found.outward == pytest.approx(-1, abs=0.05) and found.noise == pytest.approx(2, abs=0.1)


def test_values_that_are_no_numbers_are_counted_and_left_out() -> None:
    broken = values()
    broken[3, 4], broken[5, 6] = np.nan, np.inf
    found = judge_whole(Held(values()), Held(broken), Pool(1))
    assert (found.n_nonfinite, found.n_beyond) == (2, 0)
    assert found.first_nonfinite is not None and found.first_nonfinite[:2] == (3, 4)
    both = judge_whole(Held(broken), Held(broken.copy()), Pool(1))
    assert both.n_nonfinite == 0


def test_chunks_and_threads_change_nothing() -> None:
    a, b = Held(values(3000)), Held(values(3000), "q5_1")
    one, two = Pool(1), Pool(2)
    assert judge_whole(a, b, one) == judge_whole(a, b, two)
    two.close()


def test_the_survey_sums_rows_and_columns_and_projects_both_sides_alike() -> None:
    square = values(64, 64)
    found = survey(Held(square), Held(np.ascontiguousarray(square.T)), Pool(1))
    assert found.rows.reference2 == pytest.approx((square.astype(np.float64) ** 2).sum(axis=1), rel=1e-5)
    assert found.columns.candidate2 == pytest.approx((square.astype(np.float64) ** 2).sum(axis=1), rel=1e-5)
    assert found.candidate_rows == pytest.approx(found.reference_columns, abs=1e-5)


def test_damage_is_placed_by_block() -> None:
    moved = values()
    moved[2, 33] += 1
    moved[9, 0] += 1
    moved[9, 31] += 1
    found = damage(Held(values()), Held(moved), Pool(1), block=32)
    assert (found.n_blocks, found.n_damaged, found.n_rows, found.first) == (80, 2, 2, ((2, 1), (9, 0)))


def test_a_block_with_a_scale_of_its_own_counts_as_refitted() -> None:
    """Points chosen by another scale: off by one factor throughout the block, in a codec that is known to do so."""
    original = values(40, 64)
    stretched = original.copy()
    stretched[4, :32] *= np.float32(1.4)
    found = judge_whole(Held(original), Held(stretched, "q4_0"), Pool(1))
    assert found.n_beyond > 0 and found.n_refitted == found.n_beyond and found.n_refitted_blocks == 1
    stretched[4, :32] = values(40, 64, seed=1)[4, :32]
    assert judge_whole(Held(original), Held(stretched, "q4_0"), Pool(1)).n_refitted == 0
    plain = judge_whole(Held(original), Held(original * np.float32(1.4), "q8_0"), Pool(1))
    assert plain.n_refitted == 0


def test_the_pool_keeps_the_order_of_the_questions() -> None:
    pool = Pool(2)
    assert list(pool.map(lambda x: x * x, range(50))) == [x * x for x in range(50)]
    pool.close()
