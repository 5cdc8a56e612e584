"""Divergence and drift, against SciPy-free formulas written out, and against llama.cpp's definitions."""

from __future__ import annotations

import numpy as np
import pytest

from apr.parity._divergence import diverge, joined, log_probabilities, mean_interval, rms_delta_p, summary

RANDOM = np.random.default_rng(0)
Z = (3 * RANDOM.standard_normal((40, 200))).astype(np.float32)
Y = Z + (0.2 * RANDOM.standard_normal(Z.shape)).astype(np.float32)


def test_divergence_is_the_sum_over_the_whole_vocabulary() -> None:
    p = np.exp(Z.astype(np.float64)) / np.exp(Z.astype(np.float64)).sum(axis=1, keepdims=True)
    q = np.exp(Y.astype(np.float64)) / np.exp(Y.astype(np.float64)).sum(axis=1, keepdims=True)
    assert np.allclose(diverge(Z, Y).kl, (p * np.log(p / q)).sum(axis=1), rtol=1e-9)


def test_logits_against_themselves_diverge_by_nothing() -> None:
    found = diverge(Z, Z)
    assert found.kl.max() == 0.0
    assert not found.is_flip.any()


def test_a_common_shift_of_all_logits_is_no_drift() -> None:
    found = diverge(Z, Z + np.float32(4))
    assert found.kl.max() < 1e-12
    assert np.abs(found.drift).max() < 1e-5
    assert found.error.max() < 1e-6


def test_gaps_and_pulls_are_of_the_references_next_tokens() -> None:
    found = diverge(Z, Y)
    order = np.argsort(-Z[5])
    assert found.gaps[5, 1] == pytest.approx(Z[5, order[0]] - Z[5, order[2]], rel=1e-6)
    assert found.pulls[5, 1] == pytest.approx((Y - Z)[5, order[2]] - (Y - Z)[5, order[0]], abs=1e-5)


def test_delta_p_is_of_the_texts_next_token_and_missing_at_its_end() -> None:
    found = diverge(Z, Y, [7] * 39)
    p, q = np.exp(log_probabilities(Z))[:39, 7], np.exp(log_probabilities(Y))[:39, 7]
    assert np.allclose(found.delta_p[:39], q - p)
    assert np.isnan(found.delta_p[39])
    assert rms_delta_p(found.delta_p) == pytest.approx(100 * np.sqrt(((q - p) ** 2).mean()))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_position_that_is_not_finite_is_counted_and_not_left_out(value: float) -> None:
    bad = Y.copy()
    bad[3, 11] = value
    found = diverge(Z, bad)
    assert found.is_finite.sum() == 39
    assert not found.is_finite[3]
    assert found.is_flip[3]
    assert summary(found.kl, np.zeros(40, dtype=int), seed=0)["n_nonfinite"] == 1


def test_other_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match="logits of shape"):
        diverge(Z, Y[:, :-1])


def test_chunks_do_not_show() -> None:
    assert np.array_equal(diverge(Z, Y).kl, joined([diverge(Z[:7], Y[:7]), diverge(Z[7:], Y[7:])]).kl)


def test_the_interval_holds_the_mean_of_many_prompts() -> None:
    hits = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        prompts = np.repeat(np.arange(12), 20)
        values = 1.0 + np.repeat(random.standard_normal(12), 20) * 0.5 + 0.1 * random.standard_normal(240)
        low, high = mean_interval(values, prompts, seed=seed)
        hits += low <= 1.0 <= high
    assert hits >= 33, "an interval by prompts covers its mean about nineteen times of twenty"


def test_an_interval_by_position_would_be_too_narrow() -> None:
    prompts = np.repeat(np.arange(12), 20)
    values = np.repeat(np.random.default_rng(0).standard_normal(12), 20)
    clustered, each = mean_interval(values, prompts, seed=0), mean_interval(values, np.arange(240), seed=0)
    assert clustered[1] - clustered[0] > 2 * (each[1] - each[0])


def test_the_worst_hundredth_holds_the_damage_of_one_bad_position() -> None:
    kl = np.full(200, 1e-4)
    kl[17] = 1.0
    found = summary(kl, np.arange(200) // 20, seed=0)
    assert found["worst_1pct_share"] > 0.98
    assert found["kl_median"] == pytest.approx(1e-4)
