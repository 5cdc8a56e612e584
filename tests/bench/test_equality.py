"""A fast wrong answer is not a number: engines with one fault each are found before they are timed, sound ones are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.bench import _equality, _workload
from apr.bench._equality import PROOF_TOKENS, agreement, check_greedy, prove, written_by_run
from apr.engines import native
from apr.engines._subject import Subject
from apr.errors import EngineError, MissingDependency
from parity.faulty_engines import Wrapped, at_slot

TEXTS = {8: "def fib(n):\n    return n", 16: "for i in range(10):\n    print(i, i * i)\n"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("model"), "gguf", codec="q8_0")


@pytest.fixture(scope="module")
def exact(path: Path) -> Subject:
    return Subject(path, activations="float32", threads=1)


@pytest.fixture(scope="module")
def ids(exact: Subject) -> tuple[int, ...]:
    return _workload.token_ids(exact.tokenizer, _workload.prompt_of(exact.tokenizer, PROOF_TOKENS))


@pytest.mark.parametrize(("engine", "activations"), [("native", "int8"), ("native", "float32"), ("numpy", "int8")])
def test_a_sound_engine_computes_the_model(engine: str, activations: Any, exact: Subject, ids: Any, path: Path) -> None:
    found = agreement(exact, Subject(path, engine, activations=activations, threads=1), ids, name=engine)
    assert found.is_same, found.sentence
    assert found.n_positions == PROOF_TOKENS + PROOF_TOKENS // 3 and found.top1_agreement > 0.9
    assert found.kl_mean <= found.limit_mean and "computes the model" in found.sentence


@pytest.mark.parametrize(
    "loader",
    [
        at_slot("layers.1.attn", lambda x: 1.5 * x, engine=native),
        at_slot("layers.0.ffn_down", np.zeros_like, engine=native),
        at_slot("final_norm", lambda x: -x, engine=native),
    ],
    ids=["scaled attention", "a layer without its feed-forward", "another sign"],
)
def test_an_engine_with_a_fault_does_not(loader: Any, exact: Subject, ids: Any, path: Path) -> None:
    found = agreement(exact, Subject(path, loader=loader, activations="int8", threads=1), ids, name="faulty")
    assert not found.is_same and "computes something else" in found.sentence


def test_a_fault_of_decoding_alone_is_found(exact: Subject, ids: Any, path: Path) -> None:
    class Forgetful(Wrapped):
        def forward(self, spans: Any, **options: Any) -> np.ndarray:
            if len(spans[0].token_ids) == 1 and spans[0].cache.length > 40:
                spans[0].cache.truncate(spans[0].cache.length - 20)  # twenty positions are lost
            logits: np.ndarray = self.inner.forward(spans, **options)
            return logits

    def load(checkpoint: Any, **options: Any) -> Any:
        return Forgetful(native.load(checkpoint, **options))

    found = agreement(exact, Subject(path, loader=load, activations="int8", threads=1), ids, name="forgetful")
    assert not found.is_same


def test_an_engine_that_gives_up_is_no_contestant(exact: Subject, ids: Any, path: Path) -> None:
    class Broken(Wrapped):
        def forward(self, spans: Any, **options: Any) -> np.ndarray:
            raise EngineError("out of order")

    def load(checkpoint: Any, **options: Any) -> Any:
        return Broken(native.load(checkpoint, **options))

    found = agreement(exact, Subject(path, loader=load, threads=1), ids, name="broken")
    assert not found.is_same and found.sentence == "cannot be compared: out of order"


def test_logits_that_are_no_numbers_are_not_the_same(exact: Subject, ids: Any, path: Path) -> None:
    class NotANumber(Wrapped):
        def forward(self, spans: Any, **options: Any) -> np.ndarray:
            return np.full_like(self.inner.forward(spans, **options), np.nan)

    def load(checkpoint: Any, **options: Any) -> Any:
        return NotANumber(native.load(checkpoint, **options))

    assert not agreement(exact, Subject(path, loader=load, threads=1), ids, name="nan").is_same


def test_greedy_tokens_are_the_same_at_any_number_of_threads(path: Path) -> None:
    expected = written_by_run(str(path), TEXTS, 8, activations="int8")
    assert set(expected) == set(TEXTS) and all(len(ids) == 8 for ids in expected.values())
    for threads in (1, 2):
        found = check_greedy(Subject(path, activations="int8", threads=threads), TEXTS, expected, 8)
        assert found.is_same and found.threads == threads and "16 greedy tokens" in found.sentence


def test_an_engine_that_minds_its_threads_is_found(path: Path) -> None:
    expected = written_by_run(str(path), TEXTS, 8, activations="int8")

    class Racing(Wrapped):
        def forward(self, spans: Any, **options: Any) -> np.ndarray:
            logits: np.ndarray = self.inner.forward(spans, **options)
            return np.roll(logits, 1, axis=1) if self.inner.threads > 1 else logits

    def load(checkpoint: Any, **options: Any) -> Any:
        return Racing(native.load(checkpoint, **options))

    assert check_greedy(Subject(path, loader=load, activations="int8", threads=1), TEXTS, expected, 8).is_same
    found = check_greedy(Subject(path, loader=load, activations="int8", threads=2), TEXTS, expected, 8)
    assert not found.is_same and "token 1 is not the one that `apr run` writes" in found.sentence


def test_all_engines_are_proved_at_once(path: Path) -> None:
    engines = {"native": "native", "numpy": "numpy", "fake": "fake"}
    expected, checks, agreements = prove(str(path), engines, TEXTS, new_tokens=4, threads=[1, 2], activations="int8")
    assert [check.threads for check in checks] == [1, 2] and set(expected) == set(TEXTS)
    # the fake engine makes its weights up: it computes another model
    assert [(found.engine, found.is_same) for found in agreements] == [
        ("native", True), ("numpy", True), ("fake", False),
    ]  # fmt: skip


def test_an_engine_that_does_not_load_is_refused_and_one_that_is_not_installed_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apr.engines import fake

    def failing(error: Exception) -> Callable[..., Any]:
        def load(*given: Any, **options: Any) -> Any:
            raise error

        return load

    texts = {8: TEXTS[8]}
    monkeypatch.setattr(fake, "load", failing(EngineError("refused")))
    _, _, agreements = prove(str(path), {"fake": "fake"}, texts, new_tokens=2, threads=[1], activations="int8")
    assert not agreements[0].is_same and "refused" in agreements[0].sentence
    monkeypatch.setattr(fake, "load", failing(MissingDependency("peer", extra="peer")))
    with pytest.raises(MissingDependency):
        prove(str(path), {"fake": "fake"}, texts, new_tokens=2, threads=[1], activations="int8")


@pytest.mark.parity
def test_llama_cpp_computes_the_same_small_model(path: Path, exact: Subject, ids: Any) -> None:
    pytest.importorskip("xllamacpp")
    found = agreement(exact, Subject(path, "llama-cpp", activations="int8", threads=1), ids, name="llama-cpp")
    assert found.is_same, found.sentence


def test_tokens_are_compared_one_by_one() -> None:
    assert _equality.compared({3: [1, 2]}, {3: [1, 2]}, threads=1).is_same
    found = _equality.compared({3: [1, 2]}, {3: [1, 2, 3]}, threads=1)
    assert not found.is_same and "token 3" in found.sentence
