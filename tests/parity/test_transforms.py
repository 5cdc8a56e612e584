"""Exact transforms: each is found behind each codec, and none where there is none to find."""

from __future__ import annotations

import numpy as np
import pytest

import tiny
from apr.parity._rounding_bounds import Allowance
from apr.parity._transforms import Case, Explanation, explain
from apr.parity._weights_measures import Pool, judge_whole
from apr.parity._weights_rows import Rows
from parity.weight_subjects import Held

UP = "model.layers.0.mlp.up_proj.weight"
Q = "model.layers.0.self_attn.q_proj.weight"


def weights(rows: int = 64, columns: int = 96, *, seed: int = 0) -> np.ndarray:
    return (0.05 * np.random.default_rng(seed).standard_normal((rows, columns))).astype(np.float32)


class Given:
    """Values under another tensor's allowance."""

    def __init__(self, values: np.ndarray, allowed: Allowance) -> None:
        self.shape = values.shape
        self._rows = Rows(values.astype(np.float32), allowed)

    def read(self, rows: slice | np.ndarray) -> Rows:
        return Rows(self._rows.values[rows], self._rows.allowance.each(lambda part: part[rows]))


def explained(
    reference: np.ndarray,
    candidate: np.ndarray,
    *,
    codec: str = "f32",
    name: str = UP,
    file_order: np.ndarray | None = None,
) -> Explanation | None:
    theirs, ours, pool = Held(reference), Held(candidate, codec), Pool(1)
    before = judge_whole(theirs, ours, pool)
    assert before.n_beyond > 0
    return explain(Case(name, theirs, ours, before, tiny.config(), pool, file_order=file_order))


CODECS = ("f32", "f16", "bf16", "q8_0", "q5_1", "q4_0")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("factor", [2.0, 0.5, -1.0, 1.25, 64**-0.5])
def test_a_factor_is_found(factor: float, codec: str) -> None:
    found = explained(weights(), weights() * np.float32(factor), codec=codec)
    assert found is not None and found.cause == "weights.scaled"
    assert found.where["factor"] == pytest.approx(factor, rel=0.02)


@pytest.mark.parametrize("codec", CODECS)
def test_a_constant_that_was_added_is_found(codec: str) -> None:
    found = explained(weights(), weights() + np.float32(0.5), codec=codec)
    assert found is not None and found.cause == "weights.offset"
    assert found.where["offset"] == pytest.approx(0.5, abs=2e-3)


@pytest.mark.parametrize("codec", CODECS)
def test_columns_with_factors_of_their_own_are_found(codec: str) -> None:
    factors = np.linspace(0.4, 2.5, 96, dtype=np.float32)
    found = explained(weights(512), weights(512) * factors, codec=codec)
    assert found is not None and found.cause == "weights.scaled"
    assert found.where["factor"] == pytest.approx([0.4, 2.5], rel=0.02)


@pytest.mark.parametrize("codec", CODECS)
def test_zero_columns_are_found(codec: str) -> None:
    candidate = weights()
    candidate[:, 32:64] = 0
    found = explained(weights(), candidate, codec=codec)
    assert found is not None and found.cause == "weights.zeroed" and found.where["columns"] == list(range(32, 64))


@pytest.mark.parametrize("codec", CODECS)
def test_a_square_matrix_on_its_side_is_found(codec: str) -> None:
    square = weights(64, 64)
    found = explained(square, np.ascontiguousarray(square.T), codec=codec)
    assert found is not None and found.cause == "weights.transposed"


@pytest.mark.parametrize("codec", ["q8_0", "q5_1", "q4_0"])
def test_nibbles_read_in_another_order_are_a_fault_of_the_quantiser(codec: str) -> None:
    mixed = weights().reshape(64, 3, 2, 16)[:, :, ::-1].reshape(64, 96)
    found = explained(weights(), np.ascontiguousarray(mixed), codec=codec)
    assert found is not None and (found.cause, found.kind) == ("weights.quantization", "packing")


def test_heads_are_counted_where_rows_are_heads() -> None:
    candidate = weights(64, 64)
    candidate[16:32] = 0
    found = explained(weights(64, 64), candidate, name=Q)
    assert found is not None and found.where["heads"] == [1]


@pytest.mark.parametrize("codec", CODECS)
def test_other_weights_have_no_transform(codec: str) -> None:
    assert explained(weights(), weights(seed=1), codec=codec) is None


def test_noise_on_top_of_the_weights_has_no_transform() -> None:
    assert explained(weights(), weights() + np.float32(0.01) * weights(seed=1)) is None


def test_one_damaged_block_is_not_taken_for_a_factor() -> None:
    candidate = weights()
    candidate[5, :32] = weights(seed=2)[5, :32]
    assert explained(weights(), candidate, codec="q8_0") is None


def test_an_allowance_that_spreads_stays_as_it_is() -> None:
    zero = np.zeros((), dtype=np.float32)
    assert Allowance(zero, zero, zero).each(lambda part: part[3]).half.ndim == 0
