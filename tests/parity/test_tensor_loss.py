"""What rounding costs a tensor, by an account of its own; and damage that no rounding does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ggml_oracle
import quantised_copies
import tiny
from apr.engines._subject import Subject
from apr.kernels import quants
from apr.parity import _tensor_loss
from apr.parity._pair import Pair
from apr.parity._tensor_loss import LADDER, TensorLoss
from apr.parity._weights_census import census

CODECS = ("q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "q3_k", "q2_k")


def losses(reference: Path, candidate: Path) -> dict[str, TensorLoss]:
    pair = Pair(Subject.of(str(reference)), Subject.of(str(candidate)))
    try:
        return {match.name: _tensor_loss.measure(match) for match in census(pair).matches}
    finally:
        pair.close()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantised_copies.original(tmp_path_factory.mktemp("source"))


@pytest.mark.parametrize(
    "mixture", ["q8_0", "q6_k", "q5_k_m", "q5_1", "q5_0", "q4_k_m", "q4_1", "q4_0", "q3_k_m", "q2_k"]
)
def test_an_honest_rounding_is_on_the_ladder(mixture: str, source: Path, tmp_path: Path) -> None:
    found = losses(source, quantised_copies.quantised(source, tmp_path / "q.gguf", mixture))
    assert [loss.refusal for loss in found.values() if loss.refusal is not None] == []
    assert sum(loss.max_abs > 0 for loss in found.values()) > 10
    below = [loss for loss in found.values() if loss.below is not None]
    assert all(loss.relative_error < loss.below_error for loss in below) and (below or mixture == "q2_k")  # type: ignore[operator]


def test_the_figures_are_those_of_float64(source: Path, tmp_path: Path) -> None:
    copy = quantised_copies.quantised(source, tmp_path / "q.gguf", "q4_0")
    found = losses(source, copy)
    with Subject.of(str(source)) as one, Subject.of(str(copy)) as other:
        for name, loss in found.items():
            a, b = (side.checkpoint.array(name).astype(np.float64) for side in (one, other))
            error = np.linalg.norm(b - a) / np.linalg.norm(a)
            assert loss.relative_error == pytest.approx(error, rel=1e-4, abs=1e-9)
            assert loss.cosine == pytest.approx(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)
            assert loss.max_abs == pytest.approx(np.abs(b - a).max())
            if a.ndim == 2 and loss.max_abs > 0:
                size = quants.codec(loss.codec).block_size
                blocks = np.linalg.norm((b - a).reshape(a.shape[0], -1, size), axis=2)
                row, column = np.unravel_index(blocks.argmax(), blocks.shape)
                assert (loss.worst_row, loss.worst_column) == (row, size * column)


@pytest.mark.parametrize("codec", CODECS)
def test_the_ladder_stands_over_what_ggml_s_own_quantisers_lose(codec: str) -> None:
    random = np.random.default_rng(5)
    for values in (random.normal(size=(64, 512)), random.standard_t(5, size=(64, 512)), random.laplace(size=(64, 512))):
        weights = values.astype(np.float32)
        lost = quants.codec(codec).decode(ggml_oracle.quantise(codec, weights), weights.shape) - weights
        error = float(np.linalg.norm(lost) / np.linalg.norm(weights))
        assert LADDER[codec] / 5 < error < LADDER[codec], error


@pytest.mark.parametrize("mixture", ["q8_0", "q6_k", "q4_k_m", "q4_0"])
def test_wrong_scales_are_no_rounding(mixture: str, source: Path, tmp_path: Path) -> None:
    copy = quantised_copies.quantised(source, tmp_path / "q.gguf", mixture)
    found = losses(source, quantised_copies.with_wrong_scales(copy, by=1.3))
    refused = {name: loss.refusal for name, loss in found.items() if loss.refusal is not None}
    assert list(refused) == [quantised_copies.CANONICAL]


def test_fewer_bits_that_lose_less_refuse_it(source: Path, tmp_path: Path) -> None:
    copy = quantised_copies.quantised(source, tmp_path / "q.gguf", "q5_0")
    loss = losses(source, quantised_copies.with_wrong_scales(copy, by=1.085))[quantised_copies.CANONICAL]
    assert loss.relative_error is not None and loss.relative_error < loss.ladder  # type: ignore[operator]
    assert loss.refusal is not None and "with fewer bits loses" in loss.refusal


def test_values_on_a_coarse_grid_are_no_alarm(tmp_path: Path) -> None:
    rounded = tiny.write(tmp_path / "a", "gguf", quantised_copies.MADE, codec="q4_0")
    for mixture in ("q5_k_m", "q5_0", "q6_k"):
        found = losses(rounded, quantised_copies.quantised(rounded, tmp_path / f"{mixture}.gguf", mixture))
        assert all(loss.refusal is None for loss in found.values()), mixture


def test_a_tensor_of_zeros_loses_nothing(tmp_path: Path) -> None:
    weights = tiny.tensors(quantised_copies.MADE)
    weights[quantised_copies.CANONICAL][:] = 0
    source = tiny.write(tmp_path / "a", "gguf", quantised_copies.MADE, weights)
    loss = losses(source, quantised_copies.quantised(source, tmp_path / "q.gguf"))[quantised_copies.CANONICAL]
    assert (loss.cosine, loss.relative_error, loss.max_abs, loss.refusal) == (None, None, 0.0, None)
