"""The limits that logits are held to, and the questions in their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines import native
from apr.engines._subject import Subject
from apr.parity._drift import Drift, drift, place_of, positions_of
from apr.parity._pair import Pair
from apr.parity._teacher_forced import observe
from parity import faulty_engines as faulty


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("model"), "gguf", codec="q8_0")


def judged(path: Path, opened: list[Subject], **options: object) -> tuple[Drift, Pair]:
    pair = Pair(Subject(path, threads=1), Subject(path, threads=1, **options))  # type: ignore[arg-type]
    opened += [pair.reference, pair.candidate]
    return drift(pair, observe(pair)), pair


def test_an_exact_candidate_is_held_to_the_floor_alone(path: Path, opened: list[Subject]) -> None:
    found, _ = judged(path, opened)
    assert found.findings == ()
    assert found.limits.mean == 4 * found.limits.floor_mean
    assert 0 < found.limits.floor_mean < 1e-11


def test_a_candidate_of_8_bits_is_held_to_its_ladder_and_is_near_it(path: Path, opened: list[Subject]) -> None:
    found, pair = judged(path, opened, activations="int8")
    assert [f.cause for f in found.findings] == ["drift.precision"]
    kl = np.concatenate([run.divergence.kl for run in observe(pair)])
    assert 0.2 * found.limits.ladder_mean < kl.mean() < 4 * found.limits.ladder_mean


def test_drift_ten_times_its_precision_is_no_drift(path: Path, opened: list[Subject]) -> None:
    random = np.random.default_rng(0)
    noisy = faulty.at_slot(
        "ffn_norm",
        lambda value: value * (1 + 0.05 * random.standard_normal(value.shape)).astype(np.float32),
        engine=native,
    )
    found, _ = judged(path, opened, activations="int8", loader=noisy)
    assert not found.findings[0].is_benign


def test_places_and_positions_are_counted_alike(path: Path, opened: list[Subject]) -> None:
    _, pair = judged(path, opened)
    runs = observe(pair)
    n = len(runs[0].divergence.kl)
    assert place_of(runs, n - 1) == (runs[0], n - 1)
    assert place_of(runs, n) == (runs[1], 0)
    assert len(positions_of(runs)) == sum(len(run.divergence.kl) for run in runs)
    with pytest.raises(IndexError):
        place_of(runs, 10**9)


def test_the_same_question_under_two_regimes_is_one_position(path: Path, opened: list[Subject]) -> None:
    _, pair = judged(path, opened)
    runs = observe(pair)
    positions = positions_of(runs)
    formatted = positions.key[positions.regime == "pre-formatted"]
    assert set(formatted.tolist()) <= set(positions.key[positions.regime == "chat"].tolist())
