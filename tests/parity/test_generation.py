"""The generation link: partings that drift explains, and what in a candidate contradicts itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.engines import native
from apr.engines import numpy as numpy_engine
from apr.engines._base import Session
from apr.engines._language_model import LanguageModel, Run
from apr.engines._sampling import Sampling
from apr.engines._subject import Subject
from apr.models._checkpoint import Checkpoint
from apr.models._kv_cache import KVCache
from apr.parity import generation, logits
from apr.parity._link import LinkResult
from apr.parity._pair import Pair
from apr.parity._teacher_forced import NEW_TOKENS, output_of
from parity import faulty_engines as faulty


def path_of(models: Path, codec: str = "f32") -> Path:
    if not (models / codec).exists():
        tiny.write(models / codec, "gguf", tiny.config("llama"), codec=codec)
    return models / codec / "model.gguf"


def compared(opened: list[Subject], reference: Subject, candidate: Subject) -> LinkResult:
    opened += [reference, candidate]
    result = generation.compare(Pair(reference, candidate))
    json.dumps(result.measure, allow_nan=False)
    return result


def with_loader(models: Path, loader: faulty.Loader) -> Subject:
    return Subject(path_of(models), threads=1, loader=loader)


def test_the_same_file_writes_the_same_in_every_mode(models: Path, opened: list[Subject]) -> None:
    result = compared(opened, Subject(path_of(models), threads=1), Subject(path_of(models), threads=2))
    assert result.verdict == "same", result.sentence
    assert {run["mode"] for run in result.measure["runs"]} == {"alone", "cached", "batch"}
    assert all(run["first_divergence"] is None and run["is_explained"] for run in result.measure["runs"])
    raw = result.measure["regimes"]["raw"]
    assert (raw["n"], raw["n_identical"]) == (3, 3)


def test_another_kernel_set_writes_the_same(models: Path, opened: list[Subject]) -> None:
    result = compared(opened, Subject(path_of(models), threads=1), Subject(path_of(models), "numpy", threads=1))
    assert result.verdict == "same", result.sentence


def test_partings_of_rounded_weights_are_benign(models: Path, opened: list[Subject]) -> None:
    result = compared(opened, Subject(path_of(models), threads=1), Subject(path_of(models, "q4_0"), threads=1))
    assert result.verdict == "different"
    assert result.is_benign, result.sentence
    assert result.findings[0].cause == "drift.quantization"
    parted = [run for run in result.measure["runs"] if run["first_divergence"] is not None]
    assert parted
    assert all(run["is_explained"] and run["n_forced"] > 0 for run in parted)


def test_a_parting_that_a_fault_makes_is_not_explained(models: Path, opened: list[Subject]) -> None:
    candidate = with_loader(models, faulty.attention_scaled(0.6))
    result = compared(opened, Subject(path_of(models), threads=1), candidate)
    assert result.verdict == "different"
    assert not result.is_benign
    assert result.findings[0].cause == "engine.op"
    assert not all(run["is_explained"] for run in result.measure["runs"])


@pytest.mark.parametrize(
    "sampling", [Sampling(repetition_penalty=1.4), Sampling(temperature=1.5, top_k=5)], ids=["penalty", "temperature"]
)
def test_a_sampler_that_does_not_take_the_first_token_is_named(
    models: Path, opened: list[Subject], sampling: Sampling
) -> None:
    result = compared(
        opened, Subject(path_of(models), threads=1), speaking(Subject(path_of(models), threads=1), sampling=sampling)
    )
    assert result.findings[0].cause == "engine.sampling", result.sentence
    assert {"position", "token_id", "regime"} <= result.findings[0].where.keys()


def test_a_stop_token_that_is_passed_over_is_named(models: Path, opened: list[Subject]) -> None:
    reference, stop = stopping(models, opened)
    candidate = speaking(Subject(path_of(models), threads=1).with_stop([stop]), at_eos="ignore")
    result = compared(opened, reference, candidate)
    assert result.findings[0].cause == "engine.stop"
    assert result.findings[0].where["token_id"] == stop


def test_a_stop_token_that_the_candidate_does_not_know_is_missing(models: Path, opened: list[Subject]) -> None:
    reference, stop = stopping(models, opened)
    result = compared(opened, reference, Subject(path_of(models), threads=1).with_stop([]))
    assert result.findings[0].cause == "stop.missing"
    assert result.findings[0].where["token_id"] == stop


def test_stopping_where_both_should_is_the_same(models: Path, opened: list[Subject]) -> None:
    reference, stop = stopping(models, opened)
    result = compared(opened, reference, Subject(path_of(models), "numpy", threads=1).with_stop([stop]))
    assert result.verdict == "same", result.sentence


def test_an_end_without_a_stop_token_is_named(models: Path, opened: list[Subject]) -> None:
    candidate = speaking(Subject(path_of(models), threads=1), max_tokens=7)
    result = compared(opened, Subject(path_of(models), threads=1), candidate)
    assert result.findings[0].cause == "engine.stop"
    assert "without a stop token" in result.sentence


def test_a_prompt_cache_that_is_not_what_it_was_is_named(models: Path, opened: list[Subject]) -> None:
    result = compared(opened, Subject(path_of(models), threads=1), with_loader(models, spoilt_on_reuse))
    assert result.findings[0].cause == "engine.kv_cache"
    assert result.findings[0].where["mode"] == "cached"


def test_a_batch_whose_rows_are_mixed_up_is_named(models: Path, opened: list[Subject]) -> None:
    result = compared(opened, Subject(path_of(models), threads=1), with_loader(models, mixed_batch))
    assert result.findings[0].cause == "engine.kv_cache"
    assert result.findings[0].where["mode"] == "batch"


def test_a_cache_that_forgets_is_seen_in_the_text_though_one_pass_is_right(models: Path, opened: list[Subject]) -> None:
    # R6: forward parity green, generation parity red
    candidate = with_loader(models, faulty.changed_model(faulty.forgetful_cache))
    result = compared(opened, Subject(path_of(models), threads=1), candidate)
    assert result.findings[0].cause == "engine.kv_cache"


def test_other_prompts_are_not_comparable(models: Path, opened: list[Subject]) -> None:
    reference, candidate = (Subject(path_of(models), threads=1) for _ in range(2))
    vars(candidate)["template"] = None
    result = compared(opened, reference, candidate)
    assert result.verdict == "not_comparable"


def test_a_reference_behind_a_network_is_not_comparable(models: Path, opened: list[Subject]) -> None:
    result = compared(opened, Subject("openai://localhost/x", "openai"), Subject(path_of(models), threads=1))
    assert result.verdict == "not_comparable"


def test_the_runs_are_long_enough_to_be_worth_reading() -> None:
    assert NEW_TOKENS >= 24


@pytest.mark.real
@pytest.mark.slow
def test_eight_bits_on_a_real_model_part_where_the_drift_predicts(
    real_model: Callable[[str], Path], opened: list[Subject]
) -> None:
    path = real_model("smollm2")
    reference, candidate = Subject(path), Subject(path, activations="int8")
    result = compared(opened, reference, candidate)
    assert result.is_benign, result.sentence
    assert set(result.measure["regimes"]) == {"raw", "chat", "multi-turn", "pre-formatted", "long"}
    found = logits.compare(Pair(reference, candidate))
    assert [f.cause for f in found.findings] == ["drift.precision"]
    assert all(1e-4 < figures["kl_mean"] < 0.02 for figures in found.measure["regimes"].values())
    predicted = sum(band["predicted"] for band in found.measure["bands"])
    observed = sum(band["flips"] for band in found.measure["bands"])
    assert 0.4 * predicted < observed < 2.5 * predicted


def stopping(models: Path, opened: list[Subject]) -> tuple[Subject, int]:
    """A reference that ends one of its answers in the middle, and the token that ends it."""
    plain = Subject(path_of(models), threads=1).with_stop([])
    opened.append(plain)
    prompt = plain.voice.encode("def fib(n):\n")
    stop = output_of(plain, prompt)[8]
    return Subject(path_of(models), threads=1).with_stop([stop]), stop


def speaking(subject: Subject, **wrong: Any) -> Subject:
    """A subject whose generation takes other options than it is given."""

    class Wrong(LanguageModel):
        def run(self, prompt: Any, **options: Any) -> Run:
            if "max_tokens" in wrong:
                wrong["max_tokens"] = min(wrong["max_tokens"], options["max_tokens"])
            return super().run(prompt, **(options | wrong))

    subject.language_model.__class__ = Wrong
    return subject


class _SpoiltCache(KVCache):
    def truncate(self, length: int) -> None:
        super().truncate(length)
        for keys in self._k:
            keys[:length] *= np.float32(0.5)


def spoilt_on_reuse(checkpoint: Checkpoint, **options: Any) -> Session:
    """What a cache holds is not what it held, once it has been cut."""
    session = numpy_engine.load(checkpoint, **options)
    right = session.new_cache

    def new_cache() -> KVCache:
        made = right()
        made.__class__ = _SpoiltCache
        return made

    session.new_cache = new_cache  # type: ignore[method-assign]
    return session


def mixed_batch(checkpoint: Checkpoint, **options: Any) -> Session:
    """Sequences that share a pass get each other's logits."""

    class Mixed(faulty.Wrapped):
        def forward(self, spans: Any, **passed: Any) -> np.ndarray:
            found = np.asarray(self.inner.forward(spans, **passed))
            return np.roll(found, 1, axis=0) if len(spans) > 1 else found

    return Mixed(native.load(checkpoint, **options))
