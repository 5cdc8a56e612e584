"""Floors and ladders are measured: on tiny models, against other draws, against the int8 kernels, and by their own formulas."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import tiny
from apr.engines._subject import Subject
from apr.parity import _floor
from apr.parity._captures import Capture, capture, difference, force
from apr.parity._divergence import joined
from apr.parity._floor import (
    Precision,
    coarsened,
    rounding,
    shown,
    slot_floor,
    slot_ladder,
    to_bfloat16,
    to_float16,
    to_int8,
)

INT8 = Precision("int8", "float16", is_own=True)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    path = tiny.write(
        tmp_path_factory.mktemp("model"), "gguf", tiny.config("llama", **tiny.BLOCKS_OF_256), codec="q8_0"
    )
    with Subject(path, threads=1) as made:
        yield made


@pytest.fixture(scope="module")
def values(subject: Subject) -> Capture:
    return capture(subject.session, list(range(60, 100)))


def test_threads_and_repeats_have_no_floor_at_all(subject: Subject, values: Capture) -> None:
    two = Subject(subject.path, threads=2)
    other = capture(two.session, values.token_ids)
    two.close()
    assert all(np.array_equal(value, other.slots[slot]) for slot, value in values.slots.items())


def test_the_floor_is_some_roundings_of_float32(subject: Subject, values: Capture) -> None:
    floor = slot_floor(subject.session, values, seed=0)
    assert floor.keys() == values.slots.keys()
    assert all(1e-8 < error < 1e-5 for slot, error in floor.items()), floor


def test_the_floor_depends_on_the_seed_alone_and_little_on_that(subject: Subject, values: Capture) -> None:
    first, again, other = (slot_floor(subject.session, values, seed=seed) for seed in (0, 0, 9))
    assert first == again
    assert first != other
    assert all(error <= _floor.SPREAD * first[slot] for slot, error in other.items())


def test_the_numpy_definition_is_within_the_floor_of_the_kernels(subject: Subject, values: Capture) -> None:
    limits = _floor.thresholds(slot_floor(subject.session, values, seed=0))
    exceeded = {}

    def look(slot: str, value: np.ndarray, given: np.ndarray) -> None:
        error = difference(value, given).relative_l2
        if error > limits[slot]:
            exceeded[slot] = error

    definition = Subject(subject.path, "numpy", threads=1)
    force(definition.session, values, look)
    definition.close()
    assert exceeded == {}


def test_the_ladder_of_8_bits_is_what_the_int8_kernels_do(subject: Subject, values: Capture) -> None:
    ladder = slot_ladder(subject.session, values, coarsened(INT8), shown=shown(INT8))
    measured = {}

    def look(slot: str, value: np.ndarray, given: np.ndarray) -> None:
        measured[slot] = difference(value, given).relative_l2

    coarse = Subject(subject.path, threads=1, activations="int8")
    force(coarse.session, values, look)
    coarse.close()
    linear = [slot for slot in measured if slot.endswith((".q", ".v", "attn_out", "ffn_gate", "ffn_down", "logits"))]
    assert len(linear) == 11
    for slot in linear:
        assert 0.5 * ladder[slot] < measured[slot] < 2.0 * ladder[slot], slot


def test_a_ladder_excuses_no_op_that_it_does_not_touch(subject: Subject, values: Capture) -> None:
    ladder = slot_ladder(subject.session, values, coarsened(INT8), shown=shown(INT8))
    exact = [slot for slot in ladder if slot.endswith(("attn_norm", "ffn_norm", "ffn_act", "q_rope", "attn_residual"))]
    assert len(exact) == 10
    assert all(ladder[slot] < 1e-6 for slot in exact)


def test_rounding_moves_the_logits_by_next_to_nothing_and_8_bits_by_more(subject: Subject) -> None:
    texts = [list(range(60, 90)), list(range(40, 70))]
    floor = joined(_floor.logit_floor(subject.session, texts, seed=0)).kl
    ladder = joined(_floor.logit_ladder(subject.session, texts, coarsened(INT8))).kl
    assert 0 < floor.mean() < 1e-11
    assert ladder.mean() > 1e4 * floor.mean()


def test_precision_is_what_the_session_says(subject: Subject) -> None:
    assert _floor.precision_of(subject).is_exact
    coarse = Subject(subject.path, threads=1, activations="int8")
    assert _floor.precision_of(coarse) == INT8
    coarse.close()


def test_a_threshold_is_the_coarser_of_floor_and_ladder() -> None:
    limits = _floor.thresholds({"a": 1e-7, "b": 1e-7}, {"a": 1e-2}, {"a": 1e-3, "b": 1e-9})
    assert limits == {"a": _floor.SPREAD * 1e-2, "b": _floor.SPREAD * 1e-7}


def test_a_bfloat16_is_the_nearest_number_with_eight_bits_of_mantissa() -> None:
    x = np.random.default_rng(0).standard_normal((50, 40)).astype(np.float32) * 100
    below = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)
    step = 2.0 ** (np.floor(np.log2(np.abs(x.astype(np.float64)))) - 7)
    above = below + np.sign(x) * step
    nearest = np.where(np.abs(x - below) < np.abs(x - above), below, above)
    assert np.array_equal(to_bfloat16(x), nearest.astype(np.float32))


def test_a_half_that_would_overflow_is_the_largest_half() -> None:
    assert to_float16(np.array([[1e30, -1e30, 1.0009765625]], dtype=np.float32)).tolist() == [
        [65504.0, -65504.0, 1.0009765625]
    ]


@pytest.mark.parametrize(("size", "block"), [(64, 32), (100, 32), (16, 256)])
def test_eight_bits_keep_the_largest_of_a_block_and_miss_by_half_a_step(size: int, block: int) -> None:
    x = np.random.default_rng(0).standard_normal((7, size)).astype(np.float32)
    rounded = to_int8(x, block)
    for start in range(0, size, block):
        part, got = x[:, start : start + block], rounded[:, start : start + block]
        step = np.abs(part).max(axis=1, keepdims=True) / 127
        assert (np.abs(part - got) <= step / 2 * 1.001).all()
    assert np.array_equal(to_int8(np.zeros((1, size), dtype=np.float32), block), np.zeros((1, size)))


def test_a_drawn_rounding_is_within_its_bound() -> None:
    x = np.random.default_rng(0).standard_normal((50, 40)).astype(np.float32)
    moved = np.abs(rounding(0)("embed", x) / x - 1)
    assert 0 < moved.max() < 1.2 * _floor.ROUNDINGS * 2.0**-24
