"""Median and MAD: what is out of line is found, what is only noisy or rising is not."""

from __future__ import annotations

import numpy as np

from apr.qa._outliers import LEAST_LAYERS, outliers


def test_noise_upon_a_trend_raises_no_alarm() -> None:
    for seed in range(50):
        assert outliers({i: 0.05 * i + v for i, v in _noise(seed).items()}, floor=1e-9) == []


def _noise(seed: int) -> dict[int, float]:
    return dict(enumerate(0.05 * np.random.default_rng(seed).standard_normal(24)))


def test_one_layer_out_of_line_is_found_and_its_neighbours_are_not() -> None:
    values = _noise(3) | {10: 2.0}
    (found,) = outliers(values, floor=1e-9)
    assert found.layer == 10 and found.deviation > 1.5 and found.z > found.bound


def test_the_ends_may_be_further_off() -> None:
    values = _noise(4)
    sigma = 0.05
    inside, end = values | {8: values[8] + 22 * sigma}, values | {0: values[0] + 22 * sigma}
    assert [o.layer for o in outliers(inside, floor=1e-9)] == [8] and outliers(end, floor=1e-9) == []


def test_layers_that_are_all_alike_do_not_make_an_outlier_of_rounding() -> None:
    values = dict.fromkeys(range(12), 1.0) | {5: 1.001}
    assert outliers(values, floor=0.02) == [] and [o.layer for o in outliers(values, floor=1e-9)] != []


def test_few_layers_say_nothing() -> None:
    values = {i: float(100 * (i == 1)) for i in range(LEAST_LAYERS - 1)}
    assert outliers(values, floor=0.1) == []
