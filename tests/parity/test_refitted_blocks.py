"""Whether one scale explains a block: ggml's weighted quantisers, a search over every scale, and points that were moved."""

from __future__ import annotations

import numpy as np
import pytest

import ggml_oracle
from apr.kernels import quants
from apr.parity._refitted_blocks import are_refitted
from apr.parity._rounding_bounds import Allowance, allowance

CODECS = ("q4_0", "q4_1", "q5_0", "q5_1")
GROUP = 32


def exactly(shape: tuple[int, ...]) -> Allowance:
    nothing = np.zeros(shape, dtype=np.float32)
    return Allowance(nothing, nothing, nothing)


def blocks_of(codec: str, raw: np.ndarray) -> tuple[np.ndarray, Allowance]:
    decoded = quants.codec(codec).decode(raw, (raw.size // quants.codec(codec).block_bytes, GROUP))
    return decoded, allowance(codec, raw, decoded)


def weighted(codec: str, *, sigma: float = 2.5, on_grid: bool = False, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Originals, and the bytes that ggml makes of them with importance that differs much from column to column."""
    random = np.random.default_rng(seed)
    values = (0.04 * random.standard_normal((64, 256))).astype(np.float32)
    if on_grid:  # of few points, far apart: what was quantised before
        values = quants.codec("q3_k").decode(ggml_oracle.quantise("q3_k", values), values.shape)
    importance = np.exp(sigma * random.standard_normal(256)).astype(np.float32)
    return values.reshape(-1, GROUP), ggml_oracle.quantise(codec, values, importance)


@pytest.mark.parity
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("on_grid", [False, True])
def test_every_block_of_ggmls_weighted_quantisers_has_such_a_scale(codec: str, on_grid: bool) -> None:
    n_beyond = 0
    for seed in range(5):
        original, raw = weighted(codec, on_grid=on_grid, seed=seed)
        points, allowed = blocks_of(codec, raw)
        n_beyond += np.count_nonzero((points - original > allowed.below) | (original - points > allowed.above))
        assert are_refitted(original, exactly(points.shape), points, allowed).all()
    assert n_beyond, "the case tells something that the plain bound does not"


@pytest.mark.parity
@pytest.mark.parametrize("codec", CODECS)
def test_a_point_that_was_moved_leaves_no_scale(codec: str) -> None:
    original, raw = weighted(codec, sigma=0.5)
    points, allowed = blocks_of(codec, raw)
    inner = np.flatnonzero((allowed.below == allowed.above)[:, 7])
    moved = points.copy()
    moved[inner, 7] += 4 * np.broadcast_to(allowed.half, points.shape)[inner, 7]  # two steps
    found = are_refitted(original, exactly(points.shape), moved, allowed)
    assert found[inner].mean() < 0.01 and np.delete(found, inner).all()


@pytest.mark.parity
@pytest.mark.parametrize("codec", ["q4_0", "q5_0"])
def test_the_search_agrees_with_one_over_every_scale(codec: str) -> None:
    original, raw = weighted(codec, sigma=1.0)
    original, raw = original[:128], raw[: 128 * quants.codec(codec).block_bytes]
    points, allowed = blocks_of(codec, raw)
    random = np.random.default_rng(1)
    noise = random.uniform(-1, 1, original.shape) * np.linspace(0, 0.2, len(points))[:, None]  # of a step
    near = (original + noise * 2 * allowed.half).astype(np.float32)
    is_first, is_last = allowed.below > allowed.above, allowed.above > allowed.below
    half = allowed.half * np.float32(1 + 2e-3)
    by_hand = np.zeros(len(points), dtype=bool)
    for scale in np.arange(0.45, 1.6, 1e-4):
        low, high = points - scale * near, scale * near - points
        by_hand |= (((low <= half) | is_first) & ((high <= half) | is_last)).all(axis=1)
    found = are_refitted(near, exactly(points.shape), points, allowed)
    assert 0 < by_hand.sum() < len(points), "some have a scale and some have none"
    assert np.count_nonzero(found != by_hand) <= 0.01 * len(points)


def test_what_is_not_known_of_the_original_is_allowed_for() -> None:
    original = np.linspace(-0.1, 0.1, GROUP, dtype=np.float32)[None]
    raw = quants.codec("q4_0").encode(original)
    points, allowed = blocks_of("q4_0", raw)
    inner = int(np.flatnonzero(allowed.below[0] == allowed.above[0])[3])
    off = original.copy()
    off[0, inner] += 3 * np.float32(allowed.half[0, inner])
    assert not are_refitted(off, exactly(off.shape), points, allowed).any()
    unsure = np.broadcast_to(4 * allowed.half, off.shape)
    assert are_refitted(off, Allowance(unsure, unsure, unsure), points, allowed).all()
    assert are_refitted(off, Allowance(unsure, unsure, 0 * unsure), points, allowed).all(), "the true one lies below"
    assert not are_refitted(off, Allowance(unsure, 0 * unsure, unsure), points, allowed).any()


def test_a_minimum_is_free_only_where_the_codec_has_one() -> None:
    original = np.linspace(-0.1, 0.1, GROUP, dtype=np.float32)[None]
    for codec, expected in (("q4_0", False), ("q4_1", True)):
        points, allowed = blocks_of(codec, quants.codec(codec).encode(original))
        shifted = points + 3 * np.float32(allowed.half.flat[0])
        assert are_refitted(original, exactly(original.shape), shifted, allowed).all() == expected
