"""Forced runs: whose ids they are, how many positions, and what becomes of an engine that gives up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.engines._subject import Subject
from apr.errors import EngineError
from apr.models._decoder import Span
from apr.parity import _probes, _teacher_forced
from apr.parity._pair import Pair
from apr.parity._teacher_forced import NEW_TOKENS, observe, output_of, rows_of, stepwise
from parity import faulty_engines as faulty


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    path: Path = tiny.write(tmp_path_factory.mktemp("model"), "gguf")
    made = Pair(Subject(path, threads=1), Subject(path, threads=1))
    yield made
    made.close()


def test_every_position_is_judged_and_the_references_own_words_among_them(pair: Pair) -> None:
    for run in observe(pair):
        assert len(run.divergence.kl) == len(run.prompt_ids) + len(run.output_ids) - 1
        assert len(run.steps.kl) == len(run.output_ids)
        assert run.output_ids == output_of(pair.reference, run.prompt_ids)
        assert 1 <= len(run.output_ids) <= NEW_TOKENS
    assert sum(len(run.output_ids) for run in observe(pair)) >= 24


def test_the_output_is_the_arg_max_of_the_references_rows(pair: Pair) -> None:
    run = observe(pair)[0]
    assert tuple(run.divergence.reference_top[run.first_output :].tolist()) == run.output_ids


def test_other_probes_are_another_observation(pair: Pair) -> None:
    raw = dataclasses.replace(pair, probes=tuple(_probes.of_regime("raw")))
    whole, alone = _teacher_forced.observe(pair), _teacher_forced.observe(raw)
    assert {run.probe.regime for run in alone} == {"raw"} < {run.probe.regime for run in whole}


def test_a_pair_is_observed_once(pair: Pair) -> None:
    assert observe(pair) is observe(pair)


def test_one_pass_and_single_steps_give_the_same_rows(pair: Pair) -> None:
    prompt, output = list(range(50, 70)), list(range(80, 90))
    rows = rows_of(pair.reference.session, prompt + output[:-1])[len(prompt) - 1 :]
    assert np.array_equal(rows, stepwise(pair.reference.session, prompt, output))


class Refusing(faulty.Wrapped):
    """Refuses every pass that reaches position 13."""

    def forward(self, spans: Sequence[Span], **options: Any) -> np.ndarray:
        if any(span.cache.length + len(span.token_ids) > 13 for span in spans):
            raise EngineError("not finite")
        return np.asarray(self.inner.forward(spans, **options))


def test_rows_that_an_engine_refuses_are_counted_as_not_finite(pair: Pair) -> None:
    found = rows_of(Refusing(pair.reference.session), list(range(50, 80)))
    assert np.flatnonzero(~np.isfinite(found).all(axis=1)).tolist() == list(range(13, 30))
    assert np.array_equal(found[:13], rows_of(pair.reference.session, list(range(50, 63))))
    steps = stepwise(Refusing(pair.reference.session), list(range(50, 60)), list(range(80, 90)))
    assert np.isfinite(steps).all(axis=1).tolist() == [True] * 4 + [False] * 6


def test_an_engine_that_refuses_everything_says_so(pair: Pair) -> None:
    class Never(faulty.Wrapped):
        def forward(self, spans: Sequence[Span], **options: Any) -> np.ndarray:
            raise EngineError("no")

    with pytest.raises(EngineError, match="no"):
        rows_of(Never(pair.reference.session), [1, 2, 3])


def test_regimes_without_room_are_named(pair: Pair) -> None:
    assert _teacher_forced.left_out(pair) == ["long"]


def test_words_end_where_padding_begins(pair: Pair) -> None:
    spec = pair.reference.spec
    assert _teacher_forced.n_used(pair.reference) == spec.tokens.index("<|im_end|>") + 1
