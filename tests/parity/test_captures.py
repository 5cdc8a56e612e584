"""Capturing, comparing and forcing slots, on sessions of both kernel sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines._subject import Subject
from apr.parity import _captures
from apr.parity._captures import SlotMismatch, capture, difference, force, force_some, force_steps, row_error

IDS = list(range(60, 84))


@pytest.fixture(scope="module", params=["native", "numpy"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    path: Path = tiny.write(tmp_path_factory.mktemp("model"), "gguf", tiny.config("qwen3"))
    with Subject(path, request.param, threads=1) as made:
        yield made


def test_a_capture_holds_every_slot_of_every_position(subject: Subject) -> None:
    found = capture(subject.session, IDS)
    assert next(iter(found.slots)) == "embed"
    assert [*found.slots][-1] == "logits"
    assert {value.shape[0] for value in found.slots.values()} == {len(IDS)}
    assert found.slots["layers.1.q_norm"].shape == (len(IDS), 64)


def test_forcing_right_values_finds_no_error_in_one_pass_or_step_by_step(subject: Subject) -> None:
    values = capture(subject.session, IDS)
    seen: dict[str, float] = {}

    def look(slot: str, value: np.ndarray, given: np.ndarray) -> None:
        seen[slot] = max(seen.get(slot, 0.0), row_error(value, given))

    force(subject.session, values, look)
    assert seen.keys() == values.slots.keys()
    assert max(seen.values()) < 1e-6
    seen.clear()
    force_steps(subject.session, values, look, n_prefill=20)
    assert seen.keys() == values.slots.keys()
    assert max(seen.values()) < 1e-6


def test_forced_values_are_computed_on(subject: Subject) -> None:
    values = capture(subject.session, IDS)
    other = capture(subject.session, IDS[::-1])
    mended = force_some(subject.session, IDS[::-1], {"layers.1.out": values.slots["layers.1.out"]})
    assert np.allclose(mended, values.slots["logits"], atol=1e-4)
    assert not np.allclose(other.slots["logits"], values.slots["logits"], atol=0.1)


def test_another_number_of_positions_is_refused(subject: Subject) -> None:
    values = capture(subject.session, IDS)
    short = _captures.Capture(tuple(IDS[:7]), values.slots)
    with pytest.raises(SlotMismatch, match="embed has 7 positions"):
        _captures.compare_slots(subject.session, short)
    with pytest.raises(SlotMismatch):
        force(subject.session, short, lambda *_: None)


def test_figures_are_what_their_names_say() -> None:
    random = np.random.default_rng(0)
    r, noise = (random.standard_normal((10, 500)).astype(np.float32) for _ in range(2))
    c = r + np.float32(0.1) * noise
    found = difference(c, r)
    assert found.rows[3] == pytest.approx(np.linalg.norm(c[3] - r[3]) / np.linalg.norm(r[3]), rel=1e-5)
    assert found.relative_l2 == found.rows.max() == pytest.approx(row_error(c, r), rel=1e-5)
    assert found.cosine == pytest.approx(np.corrcoef(c.ravel(), r.ravel())[0, 1], abs=1e-4)
    assert found.snr_db == pytest.approx(20.0, abs=0.5)
    assert found.spread_ratio == pytest.approx(c.std(ddof=1) / r.std(ddof=1), rel=1e-6)
    assert found.max_abs == pytest.approx(np.abs(c - r).max(), rel=1e-6)


def test_a_giant_first_position_does_not_hide_the_others() -> None:
    r = np.random.default_rng(0).standard_normal((10, 50)).astype(np.float32)
    r[0] *= 1e5
    c = r.copy()
    c[4] *= np.float32(1.01)
    pooled = np.linalg.norm(c - r) / np.linalg.norm(r)
    assert pooled < 1e-5
    assert difference(c, r).relative_l2 == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_counted_and_make_their_row_wrong(value: float) -> None:
    r = np.ones((4, 6), dtype=np.float32)
    c = r.copy()
    c[2, 3] = value
    found = difference(c, r)
    assert found.n_nonfinite == 1
    assert found.rows.tolist() == [0, 0, np.inf, 0]
    assert row_error(c, r) == np.inf


def test_equal_slots_differ_by_nothing() -> None:
    r = np.zeros((3, 4), dtype=np.float32)
    found = difference(r, r)
    assert (found.relative_l2, found.cosine, found.snr_db) == (0.0, 1.0, np.inf)


def test_slot_names_are_taken_apart() -> None:
    assert _captures.layer_and_name("layers.12.q_rope") == (12, "q_rope")
    assert _captures.layer_and_name("final_norm") == (None, "final_norm")
