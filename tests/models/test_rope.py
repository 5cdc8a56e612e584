"""Rotary frequencies against transformers (every type and spelling: test_config_hf.py), and their edges."""

from __future__ import annotations

import numpy as np
import pytest

import tiny
from apr.models._config import RopeScaling
from apr.models._rope import inverse_frequencies, llama3_factors, plain_frequencies, yarn_factor, yarn_own_factor
from config_variants import LLAMA3, LONG, LONGROPE, SHORT, YARN


@pytest.mark.parametrize("rotary_dim", [2, 10, 64, 128])
@pytest.mark.parametrize("theta", [500.0, 10000.0, 1e6])
def test_plain_frequencies_equal_float64(rotary_dim: int, theta: float) -> None:
    actual = plain_frequencies(rotary_dim, theta=theta)
    assert actual.dtype == np.float32 and actual.shape == (rotary_dim // 2,)
    np.testing.assert_allclose(actual, theta ** -(np.arange(0, rotary_dim, 2) / rotary_dim), rtol=1e-6)


def test_a_partial_rotation_has_fewer_frequencies() -> None:
    frequencies, factor = inverse_frequencies(tiny.config(partial_rotary_factor=0.5), n_positions=1)
    np.testing.assert_array_equal(frequencies, plain_frequencies(8, theta=10000.0))
    assert factor == 1.0


def test_another_base_is_unscaled() -> None:
    frequencies, factor = inverse_frequencies(tiny.config(rope_scaling=YARN), n_positions=1, theta=500.0)
    np.testing.assert_array_equal(frequencies, plain_frequencies(16, theta=500.0))
    assert factor == 1.0


@pytest.mark.parametrize(("n_positions", "factors"), [(1, SHORT), (32, SHORT), (33, LONG), (200, LONG)])
def test_longrope_changes_its_factors_after_its_original_length(n_positions: int, factors: tuple[float, ...]) -> None:
    config = tiny.config("phi3", rope_scaling=LONGROPE)
    frequencies, factor = inverse_frequencies(config, n_positions=n_positions)
    expected = plain_frequencies(16, theta=10000.0) / np.asarray(factors, dtype=np.float32)
    np.testing.assert_array_equal(frequencies, expected)
    assert factor == pytest.approx(np.sqrt(1 + np.log(8) / np.log(32)))


def test_llama3_factors_divide_the_plain_frequencies() -> None:
    config = tiny.config(rope_scaling=LLAMA3)
    scaled, _ = inverse_frequencies(config, n_positions=1)
    np.testing.assert_allclose(plain_frequencies(16, theta=10000.0) / llama3_factors(config), scaled, rtol=1e-6)
    stored = RopeScaling("llama3", 8.0, long_factor=tuple(llama3_factors(config).tolist()))
    again, _ = inverse_frequencies(tiny.config(rope_scaling=stored), n_positions=1)
    np.testing.assert_allclose(again, scaled, rtol=1e-6)


def test_a_planted_defect_moves_the_frequencies() -> None:
    plain, _ = inverse_frequencies(tiny.config(), n_positions=1)
    for scaling in (LLAMA3, YARN, LONGROPE, RopeScaling("linear", 2.0)):
        assert not np.allclose(
            inverse_frequencies(tiny.config(rope_scaling=scaling), n_positions=1)[0], plain, rtol=1e-3
        )


def test_yarns_factor_is_its_own_unless_one_is_named() -> None:
    assert yarn_factor(YARN) == yarn_own_factor(4.0) == pytest.approx(0.1 * np.log(4.0) + 1)
    assert yarn_factor(RopeScaling("yarn", 4.0, attention_factor=1.5)) == 1.5
    assert yarn_own_factor(1.0) == yarn_own_factor(0.5) == 1.0
