"""Losses against the model's own arithmetic written out, and paired differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines._subject import Subject
from apr.models._decoder import Span
from apr.parity._divergence import log_probabilities
from apr.qa import _scoring


@pytest.mark.parametrize("n", [2, 64, 65, 130, 200])
def test_losses_in_pieces_are_those_of_one_pass(n: int, tmp_path: Path) -> None:
    with Subject(tiny.write(tmp_path, "gguf"), "numpy") as subject:
        ids = np.random.default_rng(n).integers(0, 256, n)
        logits = subject.session.forward([Span(ids, subject.session.new_cache())], rows="all")
        expected = -log_probabilities(logits)[np.arange(n - 1), ids[1:]]
        found = _scoring.losses(subject.session, ids.tolist())
    assert found.shape == (n - 1,) and np.allclose(found, expected, atol=1e-4)


def test_a_difference_is_paired_and_its_error_is_over_blocks() -> None:
    draw = np.random.default_rng(0)
    common, shift = draw.normal(3.0, 2.0, 640), draw.normal(0.1, 0.01, 640)
    found = _scoring.difference(common + shift, common)
    assert found.n == 640 and abs(found.mean - 0.1) < 0.005
    assert found.interval[0] < 0.1 < found.interval[1] and found.error < 0.002


def test_neighbours_that_are_alike_count_as_one() -> None:
    steps = np.repeat(np.random.default_rng(0).normal(0.0, 1.0, 20), 32)
    zeros = np.zeros(640)
    assert _scoring.difference(steps, zeros).error > 2 * steps.std() / np.sqrt(640)
