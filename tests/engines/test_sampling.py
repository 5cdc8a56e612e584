"""Sampling against transformers' own transforms, the draw against its distribution, the compiled kernels against NumPy."""

from __future__ import annotations

import subprocess
import sys
from array import array

import numpy as np
import pytest

from apr.engines import _sampling
from apr.engines._sampling import Sampler, Sampling, drawn, filtered, penalised, summarize, summarized
from apr.errors import UsageError
from apr.kernels import _extension
from apr.kernels.softmax import log_softmax, softmax

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


def test_a_token_seen_twice_is_penalised_once() -> None:
    seen = array("q", [3, 3, 17])  # as the generation keeps them
    assert (penalised(LOGITS[0], seen, 1.3) == penalised(LOGITS[0], [17, 3], 1.3)).all()


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


def test_a_temperature_too_small_to_divide_by_is_greedy() -> None:
    for temperature in (1e-7, 1e-50):
        assert Sampler(Sampling(temperature=temperature)).choose(LOGITS[0], ()) == LOGITS[0].argmax()


def test_a_summary_has_the_best_first_and_the_lowest_ids_among_equals() -> None:
    logits = np.array([1.0, 3.0, 2.0, 3.0, 2.0, 2.0], dtype=np.float32)
    for summary in (summarized(logits, 4), summarize(logits, 4)):
        assert summary.top.tolist() == [1, 3, 2, 4]
        np.testing.assert_allclose(logits - summary.log_sum, log_softmax(logits.astype(np.float64)), atol=1e-6)


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


# The compiled kernels against the definition, over the vocabulary of Qwen2.

VOCAB_SIZE = 151_936
LAST = 1.0 - 2.0**-53
FIELDS = {
    "plain": Sampling(temperature=0.7),
    "top-k": Sampling(temperature=1.0, top_k=40),
    "top-k of one": Sampling(temperature=1.0, top_k=1),
    "top-k of all": Sampling(temperature=1.0, top_k=VOCAB_SIZE + 1),
    "top-p": Sampling(temperature=1.0, top_p=0.9),
    "top-p of nothing": Sampling(temperature=1.0, top_p=0.0),
    "top-p of nearly all": Sampling(temperature=1.5, top_p=0.999),
    "min-p": Sampling(temperature=1.0, min_p=0.05),
    "min-p of one": Sampling(temperature=1.0, min_p=1.0),
    "all": Sampling(temperature=0.8, top_k=100, top_p=0.95, min_p=0.02),
    "cold": Sampling(temperature=1e-6),
    "hot": Sampling(temperature=100.0),
}


def rows_of_logits() -> dict[str, np.ndarray]:
    """Rows of float32 [VOCAB_SIZE]: like a model's, and at the edges."""
    random = np.random.default_rng(17)
    rows = {f"model {scale}": scale * random.standard_normal(VOCAB_SIZE) for scale in (0.1, 2.0, 6.0)}
    rows["ties"] = np.round(rows["model 2.0"])
    rows["flat"] = np.zeros(VOCAB_SIZE)
    rows["one finite"] = np.where(np.arange(VOCAB_SIZE) == 77_777, 3.0, -np.inf)
    rows["two peaks"] = np.where(np.isin(np.arange(VOCAB_SIZE), (5, 150_000)), 40.0, rows["model 2.0"])
    rows["far apart"] = 1e4 * random.standard_normal(VOCAB_SIZE)
    return {name: row.astype(np.float32) for name, row in rows.items()}


ROWS = rows_of_logits()
native = pytest.mark.skipif(_extension.native() is None, reason="the compiled kernels are not built here")


@native
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("field", FIELDS)
def test_the_compiled_draw_is_the_definitions(name: str, field: str) -> None:
    compiled, sampling, logits = _extension.native(), FIELDS[field], ROWS[name]
    assert compiled is not None
    s = sampling
    for uniform in (0.0, 0.3, 0.8, 1.0 - 1e-9):
        expected = drawn(logits, sampling, uniform)
        assert compiled.sample(logits, s.temperature, s.top_k, s.top_p, s.min_p, uniform) == expected


@native
@pytest.mark.parametrize("name", ROWS)
def test_the_last_number_before_one_draws_a_token_that_was_kept(name: str) -> None:
    compiled, logits = _extension.native(), ROWS[name]
    assert compiled is not None
    # which one is decided by the last bit of a sum of 151,936 terms
    for token_id in (compiled.sample(logits, 1.0, 40, 1.0, 0.0, LAST), drawn(logits, FIELDS["top-k"], LAST)):
        assert filtered(logits, FIELDS["top-k"])[token_id] > -np.inf


@native
def test_a_sampler_draws_the_same_tokens_with_and_without_the_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen() -> list[int]:
        sampler = Sampler(Sampling(temperature=0.9, top_p=0.95, repetition_penalty=1.2, seed=8))
        return [sampler.choose(row, [1, 2, 3]) for row in ROWS.values()]

    compiled = chosen()
    monkeypatch.setattr(_sampling._extension, "native", lambda: None)
    assert chosen() == compiled


@native
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("k", [1, 2, 5, 100])
def test_the_compiled_summary_is_the_definitions(name: str, k: int) -> None:
    expected, actual = summarized(ROWS[name], k), summarize(ROWS[name], k)
    assert actual.top.tolist() == expected.top.tolist()
    assert actual.log_sum == pytest.approx(expected.log_sum, rel=1e-6, abs=1e-6)


@native
def test_one_token_is_a_vocabulary_too() -> None:
    compiled, logits = _extension.native(), np.array([-3.0], dtype=np.float32)
    assert compiled is not None
    assert compiled.sample(logits, 1.0, 5, 0.5, 0.5, 0.999) == drawn(logits, Sampling(temperature=1.0), 0.999) == 0
    assert (summarize(logits, 1).top.tolist(), summarize(logits, 1).log_sum) == ([0], pytest.approx(-3.0))


def test_greedy_choice_loads_no_random_numbers() -> None:
    """NumPy loads them when it is first asked, and an interrupt meanwhile is lost."""
    code = (
        "import sys, numpy; before = set(sys.modules)\n"
        "from apr.engines._sampling import Sampler, Sampling\n"
        "Sampler(Sampling()); print(sorted(m for m in set(sys.modules) - before if m.startswith('numpy.random')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
