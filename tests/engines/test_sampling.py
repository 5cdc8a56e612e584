"""Sampling against transformers' own transforms, and the draw against its distribution."""

from __future__ import annotations

import numpy as np
import pytest

from apr.engines._sampling import Sampler, Sampling, filtered, penalised
from apr.errors import UsageError
from apr.kernels.softmax import softmax

LOGITS = (3.0 * np.random.default_rng(3).standard_normal((20, 200))).astype(np.float32)


def warped_by_transformers(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    import torch
    from transformers.generation import logits_process as lp

    scores = torch.from_numpy(logits.copy())[None]
    chain = [lp.TemperatureLogitsWarper(sampling.temperature)]
    chain += [lp.TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []
    chain += [lp.TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
    chain += [lp.MinPLogitsWarper(sampling.min_p)] if sampling.min_p else []
    for transform in chain:
        scores = transform(None, scores)
    warped: np.ndarray = scores[0].numpy()
    return warped


@pytest.mark.parity
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.7),
        Sampling(temperature=1.0, top_k=5),
        Sampling(temperature=1.3, top_p=0.8),
        Sampling(temperature=1.0, min_p=0.1),
        Sampling(temperature=0.5, top_k=50, top_p=0.9, min_p=0.02),
        Sampling(temperature=1.0, top_k=1000),
        Sampling(temperature=1.0, top_p=0.0),
    ],
    ids=str,
)
def test_filtered_logits_equal_transformers(sampling: Sampling) -> None:
    for logits in LOGITS:
        np.testing.assert_allclose(filtered(logits, sampling), warped_by_transformers(logits, sampling), rtol=1e-6)


@pytest.mark.parity
def test_the_repetition_penalty_equals_transformers() -> None:
    import torch
    from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

    seen = [3, 3, 17, 199]
    expected = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([seen]), torch.from_numpy(LOGITS[0].copy())[None])[
        0
    ].numpy()
    np.testing.assert_allclose(penalised(LOGITS[0], seen, 1.3), expected, rtol=1e-6)
    assert (penalised(LOGITS[0], seen, 1.0) == LOGITS[0]).all()


def test_a_planted_order_of_transforms_is_seen() -> None:
    sampling = Sampling(temperature=3.0, top_p=0.7)
    swapped = filtered(LOGITS[0], Sampling(temperature=1.0, top_p=0.7)) / np.float32(3.0)  # top-p before temperature
    assert (np.isfinite(swapped) != np.isfinite(filtered(LOGITS[0], sampling))).any()


def test_draws_follow_the_distribution() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
    sampler = Sampler(Sampling(temperature=1.0, seed=11))
    counts = np.bincount([sampler.choose(logits, ()) for _ in range(20000)], minlength=4) / 20000
    np.testing.assert_allclose(counts, softmax(logits), atol=0.012)


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others() -> None:
    def drawn(seed: int) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed))
        return [sampler.choose(row, ()) for row in LOGITS]

    assert drawn(5) == drawn(5)
    assert drawn(5) != drawn(6)


def test_greedy_takes_the_lowest_id_of_a_tie() -> None:
    assert Sampler(Sampling()).choose(np.array([1.0, 2.0, 2.0], dtype=np.float32), ()) == 1


def test_the_most_likely_token_is_never_filtered_out() -> None:
    for logits in LOGITS:
        for sampling in (
            Sampling(temperature=1.0, top_p=1e-9),
            Sampling(temperature=0.01, min_p=1.0),
            Sampling(temperature=9.0, top_k=1),
        ):
            assert np.isfinite(filtered(logits, sampling)[logits.argmax()])


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 1.5},
        {"top_k": -1},
        {"min_p": 2},
        {"repetition_penalty": 0},
        {"seed": -1},
    ],
)
def test_a_value_out_of_range_names_itself(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]
