"""The arithmetic of rounds, against distributions whose medians are known, and the order of turns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from apr.bench._rounds import (
    Rounds,
    Segment,
    in_turns,
    interleaved,
    limit_fraction,
    limit_fractions,
    median_interval,
    ratio,
    rotated,
    spread,
)


def test_a_spread_is_median_least_most_and_the_values_in_order() -> None:
    found = spread([3.0, 1.0, 2.0])
    assert (found.median, found.min, found.max, found.values) == (2.0, 1.0, 3.0, (3.0, 1.0, 2.0))


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians() -> None:
    # both drift by a factor of four from round to round; the ratio within each round is 2, but in one
    found = ratio([10.0, 40.0, 20.0, 80.0, 10.0, 9.0], [5.0, 20.0, 10.0, 40.0, 5.0, 3.0])
    assert (found.median, found.min, found.max, found.interval) == (2.0, 2.0, 3.0, (2.0, 3.0))


@pytest.mark.parametrize(("n", "k"), [(5, None), (6, 1), (8, 1), (9, 2), (12, 3), (20, 6), (30, 10)])
def test_the_interval_of_a_median_takes_the_tabulated_order_statistics(n: int, k: int | None) -> None:
    # Conover, Practical Nonparametric Statistics, table A3: the k-th least and the k-th most
    found = median_interval([float(i) for i in range(1, n + 1)])
    assert found == (None if k is None else (float(k), float(n + 1 - k)))


@pytest.mark.parametrize("n", [6, 9, 20])
def test_the_interval_holds_the_true_median_as_often_as_it_says(n: int) -> None:
    random = np.random.default_rng(0)
    draws = random.exponential(1.0, (4000, n))  # skewed, as disturbed timings are; its median is ln 2
    intervals = [median_interval(row.tolist()) for row in draws]
    held = np.mean([low <= np.log(2.0) <= high for low, high in (found for found in intervals if found)])
    assert 0.945 <= held <= 0.985


def test_the_limit_fraction_pairs_each_round_with_its_bandwidth() -> None:
    assert limit_fractions([50.0, 25.0, 10.0], 400_000_000, [20.0, 10.0, None]) == pytest.approx([1.0, 1.0])
    assert limit_fraction([50.0, 25.0, 10.0], 400_000_000, [20.0, 10.0, None]) == pytest.approx(1.0)
    assert limit_fraction([50.0], 400_000_000, [None]) is None


def test_each_round_begins_with_another_one() -> None:
    assert [rotated(["a", "b", "c"], i)[0] for i in range(4)] == ["a", "b", "c", "a"]
    assert rotated(["a", "b", "c"], 2) == ["c", "a", "b"]


def recorder(said: list[str]) -> Callable[[str, float], Callable[[], Segment]]:
    def entry(name: str, value: float) -> Callable[[], Segment]:
        def run() -> Segment:
            said.append(name)
            return Segment(value, {"x": value * 10}, None)

        return run

    return entry


def test_what_is_compared_is_neighbours_in_every_round() -> None:
    said: list[str] = []
    entry = recorder(said)
    heats = {heat: {"a": entry(f"a{heat}", 1.0), "b": entry(f"b{heat}", 2.0)} for heat in ("1", "2", "3")}

    def before() -> float:
        said.append("|")
        return 20.0

    found = list(interleaved(heats, rounds=3, before=before))
    assert "".join(said) == "|a1b1a2b2a3b3|b2a2b3a3b1a1|a3b3a1b1a2b2"
    assert len(found) == 3 and found[-1]["2"].values("b") == [2.0] * 3 and found[-1]["2"].bandwidth == [20.0] * 3


def test_in_turns_forgets_the_round_that_warms_up() -> None:
    said: list[str] = []
    entry = recorder(said)
    found = in_turns({"a": entry("a", 1.0), "b": entry("b", 2.0)}, rounds=2)
    assert len(said) == 6 and [len(segments) for segments in found.values()] == [2, 2]


def test_rounds_give_any_figure_of_the_answers() -> None:
    rounds = Rounds({"a": [Segment(1.0, {"x": 5}, None), Segment(2.0, {"x": 6}, 0.5)]}, [None, None])
    assert rounds.values("a") == [1.0, 2.0] and rounds.answers("a", "x") == [5.0, 6.0]
