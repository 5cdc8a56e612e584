"""The engine without weights is an engine: the protocol, every slot, caches, batches, forcing; and it is deterministic."""

from __future__ import annotations

import functools
import time
from pathlib import Path

import numpy as np
import pytest

import apr
import tiny
from apr.engines import fake
from apr.engines import numpy as numpy_engine
from apr.engines._base import Span
from apr.engines._subject import Subject
from apr.errors import EngineError
from apr.formats import open_model
from apr.models._checkpoint import Checkpoint

IDS = np.array([5, 6, 7, 5, 6, 9, 300])


def checkpoint(folder: Path, model_type: str = "qwen2") -> Checkpoint:
    return Checkpoint(open_model(tiny.write(folder / model_type, "gguf", tiny.config(model_type))))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> fake.FakeSession:
    return fake.load(checkpoint(tmp_path_factory.mktemp("model")), threads=1)


def logits_of(session: fake.FakeSession, ids: np.ndarray = IDS) -> np.ndarray:
    return session.forward([Span(ids, session.new_cache())], rows="all")


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_every_architecture_has_the_slots_and_shapes_of_the_defining_engine(model_type: str, tmp_path: Path) -> None:
    made = checkpoint(tmp_path, model_type)
    seen: list[list[tuple[str, tuple[int, ...]]]] = []
    for engine in (fake.load(made, threads=1), numpy_engine.load(made, threads=1)):
        slots: list[tuple[str, tuple[int, ...]]] = []
        engine.forward(
            [Span(IDS, engine.new_cache())], tap=lambda name, v, slots=slots: slots.append((name, v.shape)) or v
        )
        seen.append(slots)
    assert seen[0] == seen[1] and len(seen[0]) > 30


def test_a_model_without_tensors_and_with_a_real_vocabulary_will_do(tmp_path: Path) -> None:
    weights = tiny.tensors(tiny.config())
    few = {name: weights[name] for name in ("model.embed_tokens.weight", "lm_head.weight")}
    file = open_model(tiny.write(tmp_path, "safetensors", tiny.config(), few))
    assert np.isfinite(logits_of(fake.load(Checkpoint(file), threads=1))).all()


def test_the_same_ids_give_the_same_bits_and_another_seed_gives_another_model(
    session: fake.FakeSession, tmp_path: Path
) -> None:
    again = fake.load(checkpoint(tmp_path), threads=1)
    assert logits_of(again).tobytes() == logits_of(session).tobytes()
    other = fake.load(checkpoint(tmp_path), threads=1, seed=1)
    assert np.abs(logits_of(other) - logits_of(session)).max() > 0.1


def test_no_two_tokens_tie(session: fake.FakeSession) -> None:
    top = np.sort(logits_of(session), axis=-1)
    assert (top[:, -1] > top[:, -2]).all()


def test_a_token_is_seen_by_what_comes_after_it_and_by_nothing_before(session: fake.FakeSession) -> None:
    changed = IDS.copy()
    changed[2] = 8
    differs = (logits_of(session, changed) != logits_of(session)).any(axis=-1)
    assert differs.tolist() == [False, False, True, True, True, True, True]


def test_position_counts(session: fake.FakeSession) -> None:
    assert (logits_of(session, np.array([5, 6, 7]))[2] != logits_of(session, np.array([6, 5, 7]))[2]).any()


def test_steps_over_a_cache_are_the_whole_pass_to_the_bit(session: fake.FakeSession) -> None:
    cache = session.new_cache()
    session.forward([Span(IDS[:3], cache)])
    rows = [session.forward([Span(IDS[i : i + 1], cache)])[0] for i in range(3, len(IDS))]
    np.testing.assert_array_equal(np.stack(rows), logits_of(session)[3:])
    cache.truncate(4)
    np.testing.assert_array_equal(session.forward([Span(IDS[4:5], cache)])[0], logits_of(session)[4])


def test_a_cache_that_forgot_a_position_gives_other_logits(session: fake.FakeSession) -> None:
    cache = session.new_cache()
    session.forward([Span(IDS[:3], cache)])
    cache.truncate(2)
    assert np.abs(session.forward([Span(IDS[3:4], cache)])[0] - logits_of(session)[3]).max() > 1e-3


def test_a_sequence_in_company_is_what_it_is_alone(session: fake.FakeSession) -> None:
    short, long = Span(IDS[:2], session.new_cache()), Span(IDS, session.new_cache())
    together = session.forward([short, long])
    np.testing.assert_array_equal(together, np.stack([logits_of(session)[1], logits_of(session)[-1]]))


def test_a_forced_slot_is_all_that_later_slots_know(session: fake.FakeSession) -> None:
    """Another prompt, with the reference's stream forced in before the last norm, ends in the reference's logits."""
    kept: dict[str, np.ndarray] = {}
    reference = session.forward(
        [Span(IDS, session.new_cache())], tap=lambda name, v: kept.setdefault(name, v.copy()), rows="all"
    )
    other = np.array([9, 8, 7, 6, 5, 4, 3])

    def forced(slot: str) -> np.ndarray:
        return session.forward(
            [Span(other, session.new_cache())], tap=lambda n, v: kept[n] if n == slot else v, rows="all"
        )

    np.testing.assert_array_equal(forced("layers.1.out"), reference)
    assert (forced("layers.1.ffn_down") != reference).any(), "the residual stream is still the other's"
    assert (forced("layers.0.q") != forced("nothing")).any(), "a forced query is computed on"


def test_a_tap_that_looks_changes_nothing_and_cannot_write(session: fake.FakeSession) -> None:
    watched = session.forward([Span(IDS, session.new_cache())], tap=lambda name, v: v, rows="all")
    np.testing.assert_array_equal(watched, logits_of(session))
    with pytest.raises(ValueError, match="read-only"):
        session.forward([Span(IDS, session.new_cache())], tap=lambda name, v: v.fill(0) or v)


def test_what_every_engine_refuses_is_refused(session: fake.FakeSession) -> None:
    for bad in ([-1], [tiny.VOCAB_SIZE], []):
        with pytest.raises(EngineError, match="vocabulary"):
            session.forward([Span(np.array(bad, dtype=np.int64), session.new_cache())])
    with pytest.raises(EngineError, match="not finite"), np.errstate(invalid="ignore"):
        session.forward([Span(IDS, session.new_cache())], tap=lambda n, v: v * np.float32(np.nan))


def test_it_generates_through_the_one_generation_and_the_record_says_that_it_is_fake(tmp_path: Path) -> None:
    path = checkpoint(tmp_path).file.path
    with apr.load(path, engine="fake", threads=1) as model:
        records = model.generate_many(["Hello", "A longer one"], max_tokens=8, at_eos="ignore")
        alone = model.generate("Hello", max_tokens=8, at_eos="ignore")
    assert {record.engine for record in records} == {record.kernel_set for record in records} == {"fake"}
    assert records[0].output_token_ids == alone.output_token_ids
    assert len(set(alone.output_token_ids)) > 1 and all(step.margin > 0 for step in alone.steps)


def test_two_fakes_that_differ_are_two_subjects(tmp_path: Path) -> None:
    path = checkpoint(tmp_path).file.path
    with (
        Subject(path, "fake") as first,
        Subject(path, "fake", loader=functools.partial(fake.load, seed=1)) as second,
    ):
        assert {"logits", "taps", "forcing"} <= first.capabilities
        records = [s.language_model.generate("Hello", max_tokens=8, at_eos="ignore") for s in (first, second)]
    assert records[0].output_token_ids != records[1].output_token_ids


def test_a_step_takes_less_than_a_few_milliseconds(session: fake.FakeSession) -> None:
    cache = session.new_cache()
    session.forward([Span(IDS, cache)])
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        session.forward([Span(IDS[:1], cache)])
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.005
