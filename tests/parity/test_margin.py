"""The margin analysis on logits whose truth is known: drift, planted flips, and flips under one regime only."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from apr.parity import margin
from apr.parity._divergence import diverge
from apr.parity.margin import ALL, Positions, judge, positions_of

REGIMES = ("raw", "raw", "raw", "chat", "chat", "chat", "multi-turn", "pre-formatted", "long")


def world(
    seed: int,
    *,
    drift: float = 0.3,
    tail: float = 6.0,
    between_prompts: float = 0.3,
    planted: str | None = None,
    n: int = 40,
    vocab_size: int = 80,
) -> Positions:
    """Positions of nine prompts. Logits are normal with a peak; the candidate's differ by Student's t noise.

    planted:  the regime in which three positions of each prompt flip at margins that the noise does not reach
    """
    random = np.random.default_rng(seed)
    parts = []
    for regime in REGIMES:
        rows = 3 * n if regime == "long" else n
        z = (2.5 * random.standard_normal((rows, vocab_size))).astype(np.float32)
        z[np.arange(rows), z.argmax(axis=1)] += random.exponential(2.0, rows).astype(np.float32)
        size = drift * math.exp(between_prompts * random.standard_normal())
        y = z + (size * random.standard_t(tail, z.shape) / math.sqrt(tail / (tail - 2))).astype(np.float32)
        if planted == regime:
            for row in np.flatnonzero(diverge(z, y).margin > 18 * drift)[:3]:
                y[row, z[row].argsort()[-3]] = z[row].max() + 1
        parts.append((regime, diverge(z, y)))
    return positions_of(parts)


@pytest.mark.parametrize(
    "setting", [{}, {"drift": 0.1}, {"drift": 1.0}, {"tail": 3.0}, {"between_prompts": 0.5}], ids=str
)
def test_drift_alone_is_called_benign_in_at_least_19_of_20_worlds(setting: dict[str, float]) -> None:
    verdicts = [judge(world(seed, **setting)).verdict for seed in range(8)]  # type: ignore[arg-type]
    assert verdicts.count("benign") >= 0.95 * len(verdicts)


def test_the_predicted_flips_are_near_those_that_drift_makes() -> None:
    groups = [next(g for g in judge(world(seed)).groups if g.regime == ALL and math.isinf(g.high)) for seed in range(6)]
    observed, expected = sum(g.n_flips for g in groups), sum(g.expected for g in groups)
    assert 0.5 * observed < expected < 2.0 * observed
    assert all(g.interval[0] <= g.n_flips <= g.interval[1] for g in groups)


@pytest.mark.parametrize("regime", ["raw", "chat", "multi-turn"])
def test_flips_at_wide_margins_under_one_regime_are_an_excess_and_name_it(regime: str) -> None:
    judged = [judge(world(seed, drift=0.15, planted=regime)) for seed in range(4)]
    assert [j.verdict for j in judged] == ["excess"] * 4
    assert all(j.worst is not None and j.worst.regime == regime for j in judged)
    assert all(regime in j.sentence for j in judged)


def test_the_place_of_an_excess_is_a_flip_at_a_wide_margin() -> None:
    positions = world(1, drift=0.15, planted="chat")
    judged = judge(positions)
    assert judged.place is not None
    assert positions.is_flip[judged.place]
    assert positions.margin[judged.place] > 18 * 0.15
    assert positions.regime[judged.place] == "chat"


def test_margin_above_the_error_cannot_flip_and_margin_below_it_can() -> None:
    # R5: three tokens, the candidate moves the second up by 1
    z = np.array([[5.0, 3.5, 0.0], [5.0, 4.5, 0.0]], dtype=np.float32)
    found = diverge(z, z + np.array([0.0, 1.0, 0.0], dtype=np.float32))
    assert found.drift.tolist() == [1.0, 1.0]
    assert found.margin.tolist() == [1.5, 0.5]
    assert found.is_flip.tolist() == [False, True]


def test_a_prompts_own_flips_do_not_explain_themselves() -> None:
    positions = world(3, drift=0.15, planted="multi-turn")
    own = positions.regime == "multi-turn"
    chances = margin.flip_chances(positions)[own & positions.is_flip & (positions.margin > 2.7)]
    assert len(chances) == 3
    assert chances.max() < 1e-3


def test_positions_that_are_seen_twice_count_once_and_are_no_donors_of_themselves() -> None:
    z = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32)
    y = z + np.float32(0.1) * np.random.default_rng(1).standard_normal(z.shape).astype(np.float32)
    d = diverge(z, y)
    ids = list(range(40))
    twice = positions_of([("chat", d), ("pre-formatted", d), ("raw", d)], [ids, ids, [100 + i for i in ids]])
    assert len(np.unique(twice.key)) == 80
    assert judge(twice).bands()[0]["n"] <= 80
    alone = dataclasses.replace(twice, pulls=np.where((twice.regime == "raw")[:, None], np.nan, twice.pulls))
    assert (margin.flip_chances(alone)[:80] == 0).all(), "the twin's drift was used"


def test_too_few_positions_say_how_many_more_would_decide() -> None:
    few = positions_of([("raw", diverge(*np.random.default_rng(0).standard_normal((2, 5, 40)).astype(np.float32)))])
    judged = judge(few)
    assert judged.verdict == "cannot_tell"
    assert judged.n_more is not None
    assert judged.n_more >= 27


def test_a_count_between_chance_and_defect_is_left_open_with_a_number() -> None:
    base = world(5, drift=0.15)
    wide = np.flatnonzero((base.margin > 0.8) & (base.margin < 1.0) & ~base.is_flip)
    verdicts = []
    for n in range(1, 9):
        flips = base.is_flip.copy()
        flips[wide[:n]] = True
        verdicts.append(judge(dataclasses.replace(base, is_flip=flips)))
    named = [j.verdict for j in verdicts]
    assert named == sorted(named, key=["benign", "cannot_tell", "excess"].index), "more flips were judged milder"
    assert named[-1] == "excess"
    assert all(j.n_more is not None and j.n_more > 0 for j in verdicts if j.verdict == "cannot_tell")


def test_the_judgement_depends_on_the_seed_alone() -> None:
    positions = world(7)
    assert judge(positions, seed=3) == judge(positions, seed=3)


def test_the_three_curves_are_drawn_from_all_positions() -> None:
    positions = world(2)
    n = len(positions)
    drawn = margin.curves(positions, np.linspace(0.1, 0.9, n), np.arange(n) % 40)
    assert set(drawn["margin_by_regime"]) == set(REGIMES)
    assert sum(point["n"] for point in drawn["error_by_step"]) == n
    assert sum(band["n"] for band in drawn["flips_by_band"]) == n
    assert sum(band["flips"] for band in drawn["flips_by_band"]) == positions.is_flip.sum()


def test_a_text_that_turns_in_a_circle_makes_one_choice_of_each_turn() -> None:
    keys = margin.keys_of([[1, 2, 3, 4, 5, 2, 3, 4, 5, 2, 3, 4, 5]])
    assert len(set(keys.tolist())) == 8, "the circle has four choices, and four positions lead into it"
    assert keys[8] == keys[4] == keys[12]
    assert len(set(margin.keys_of([[1, 2, 3], [1, 2, 4], [2, 3, 4]]).tolist())) == 7
