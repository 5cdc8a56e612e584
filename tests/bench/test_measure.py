"""The conduct of a bench, with contestants whose speeds are known: what is asked, in which order, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.bench import _machine, measure
from apr.bench._machine import Machine
from apr.bench._report import BenchReport
from apr.errors import UsageError

SETTINGS = measure.Settings(prompt_tokens=(8, 16), new_tokens=4, threads=(1, 2), repeats=6)
QUIET = Machine("a CPU", 2, 1 << 20, 1 << 10, 1 << 34, "Linux", {"apr": "1"}, 0.1, 0.0)
AGREED = {
    "n_positions": 9, "kl_mean": 0.001, "kl_max": 0.01, "top1_agreement": 1.0, "limit_mean": 0.01, "limit_max": 0.1,
    "is_same": True, "sentence": "computes the model",
}  # fmt: skip


@dataclass
class Stage:
    """What the processes answer, and what they were asked.

    decode:   tokens a second by engine
    wrong_at: the engine's n-th answer that holds another token
    """

    decode: dict[str, float]
    differs: tuple[str, ...] = ()
    greedy_is_same: bool = True
    wrong_at: int | None = None
    bandwidth: Iterator[float] = field(default_factory=lambda: iter(()))
    machine: Machine = QUIET
    others: float = 0.0
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    answers: Iterator[int] = field(default_factory=count)

    def process(self, name: str, command: Sequence[str]) -> Any:
        stage = self

        class Fake:
            pid, started = 0, 10.0

            def ask(self, do: str, **request: Any) -> dict[str, Any]:
                stage.asked.append((name, do, request))
                return dict(getattr(stage, do)(name, **request))

            def __enter__(self) -> Fake:
                return self

            def __exit__(self, *exception: object) -> None:
                stage.asked.append((name, "end", {}))

        return Fake()

    def prepare(self, name: str, engine: str) -> dict[str, Any]:
        return {"at": 10.25}

    def load(self, name: str, threads: int, **request: Any) -> dict[str, Any]:
        self.threads = threads
        facts = {
            "engine_version": "1",
            "kernel_set": "k",
            "instruction_set": "i",
            "activations": "int8",
            "kv_cache": "float16",
        }
        return {"load_s": 0.5 if name == "native" else 1.0, "engine": facts}

    def prove(self, name: str, engines: dict[str, str], texts: dict[int, str], new_tokens: int, threads: list[int],
              **request: Any) -> dict[str, Any]:  # fmt: skip
        agreements = [{"engine": name, **AGREED, "is_same": name not in self.differs} for name in engines]
        greedy = [{"threads": t, "is_same": self.greedy_is_same, "sentence": "said"} for t in threads]
        expected = {str(length): list(range(new_tokens)) for length in texts}
        return {"expected": expected, "greedy": greedy, "agreements": agreements}

    def generate(self, name: str, text: str, new_tokens: int) -> dict[str, Any]:
        ids = list(range(new_tokens))
        if name == "native" and next(self.answers) == self.wrong_at:
            ids[-1] = 99
        rate = self.decode[name] * self.threads
        return {
            "token_ids": ids, "prompt_tokens": 8, "prefill_s": 0.1, "prefill_tok_per_s": 10 * rate, "decode_s": 1.0,
            "decode_tok_per_s": rate, "peak_bytes": 1000 if name == "native" else 3000,
        }  # fmt: skip


Bench = Callable[..., BenchReport]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny.write(tmp_path, "gguf", codec="q8_0")


@pytest.fixture
def bench(path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Run a bench over a stage."""

    def run(
        stage: Stage, *, vs: Sequence[str] = (), settings: measure.Settings = SETTINGS, said: Any = None
    ) -> BenchReport:
        monkeypatch.setattr(measure, "Process", stage.process)
        monkeypatch.setattr(measure, "PAUSE_S", 0.0)
        monkeypatch.setattr(_machine, "machine", lambda: stage.machine)
        monkeypatch.setattr(_machine.Watch, "others", lambda self: stage.others)
        monkeypatch.setattr(_machine, "read_bandwidth", lambda threads: next(stage.bandwidth, None))
        return measure.bench(str(path), vs=vs, settings=settings, tell=said or (lambda phase, done: None))

    return run


def test_speeds_ratios_and_shares_are_those_of_the_engines(bench: Bench) -> None:
    found = bench(Stage({"native": 30.0, "numpy": 10.0}, bandwidth=iter([2.0] * 12)), vs=["numpy"])
    assert (found.verdict, found.exit_code, found.repeats, found.schema) == ("measured", 0, 6, "apr.bench/1")
    speeds = {(row.engine, row.threads, row.decode_tok_per_s.median) for row in found.speeds}
    assert speeds == {("native", 1, 30.0), ("native", 2, 60.0), ("numpy", 1, 10.0), ("numpy", 2, 20.0)}
    share = found.speeds[0].limit_fraction
    assert share is not None and share.median == pytest.approx(30.0 * found.model.bytes_per_token / 2e9)
    limit = found.speeds[0].limit_tok_per_s
    assert limit is not None and limit.median == pytest.approx(2e9 / found.model.bytes_per_token)
    ratios = {(row.figure, row.ratio.median, row.ratio.interval) for row in found.ratios}
    assert ("decode", 3.0, (3.0, 3.0)) in ratios and ("prefill", 3.0, (3.0, 3.0)) in ratios
    assert ("load", 2.0, (2.0, 2.0)) in ratios and ("memory", 3.0, (3.0, 3.0)) in ratios
    assert [row.ratio.median for row in found.ratios if row.figure == "first_token"] == pytest.approx([1.1 / 0.6] * 2)
    starts = {(row.engine, row.threads): row for row in found.starts}
    assert starts["native", 2].import_s.median == 0.25 and starts["native", 2].first_token_s.median == 0.6
    assert len(starts["numpy", 1].load_s.values) == 6


def test_the_proof_comes_first_and_engines_are_neighbours(bench: Bench) -> None:
    stage = Stage({"native": 30.0, "numpy": 10.0})
    bench(stage, vs=["numpy"], settings=measure.Settings((8, 16), 4, (2,), 2))
    steps = [(name, do) for name, do, _ in stage.asked if do != "end"]
    assert steps[:3] == [("equality", "prepare"), ("equality", "prepare"), ("equality", "prove")]
    timed = [
        (name, request["text"]) for name, do, request in stage.asked if do == "generate" and request["new_tokens"] == 4
    ]
    warm, rounds = timed[:4], timed[4:]
    assert len(warm) == 4 and len(rounds) == 8
    for first, second in zip(rounds[::2], rounds[1::2], strict=True):
        assert {first[0], second[0]} == {"native", "numpy"} and first[1] == second[1]
    assert rounds[0][0] != rounds[4][0], "each round begins with another engine"


def test_a_peer_that_computes_something_else_is_not_timed(bench: Bench) -> None:
    stage = Stage({"native": 30.0, "numpy": 10.0}, differs=("numpy",))
    found = bench(stage, vs=["numpy"])
    assert (found.verdict, found.exit_code) == ("not_comparable", 5) and set(found.refused) == {"numpy"}
    assert found.ratios == () and {row.engine for row in found.speeds} == {"native"}
    assert not [1 for name, do, _ in stage.asked if name == "numpy"]


@pytest.mark.parametrize("stage", [{"differs": ("native",)}, {"greedy_is_same": False}], ids=str)
def test_when_our_engine_is_wrong_nothing_is_timed(stage: dict[str, Any], bench: Bench) -> None:
    made = Stage({"native": 30.0}, **stage)
    found = bench(made)
    assert (found.verdict, found.exit_code, found.speeds, found.starts) == ("wrong", 1, (), ())
    assert not [1 for _, do, _ in made.asked if do == "generate"]


@pytest.mark.parametrize("wrong_at", [0, 6, 9], ids=["in a fresh process", "warming up", "while timed"])
def test_an_answer_that_changes_under_the_clock_withdraws_every_figure(wrong_at: int, bench: Bench) -> None:
    settings = measure.Settings((8, 16), 4, (1,), 6)
    found = bench(Stage({"native": 30.0}, wrong_at=wrong_at), settings=settings)
    assert (found.verdict, found.exit_code, found.speeds) == ("wrong", 1, ())
    assert not found.greedy[-1].is_same and "while it was timed" in found.greedy[-1].sentence


def test_disturbed_rounds_and_a_busy_start_are_said(bench: Bench) -> None:
    loud = replace(QUIET, l3_bytes=1 << 40, load_average=5.0, others_cores=1.5)
    stage = Stage({"native": 30.0}, bandwidth=iter([2.0] * 4), machine=loud, others=1.0)
    found = bench(stage, settings=measure.Settings((8,), 4, (1,), 2))
    said = " ".join(found.warnings)
    assert "others keep 1.5 of 2 cores" in said and "2 of 2 timed runs were disturbed" in said
    assert "last-level cache" in said and "no 95 % interval" in said
    assert found.speeds[0].busy_rounds == 2


def test_faster_than_the_memory_is_doubted(bench: Bench) -> None:
    settings = measure.Settings((8,), 4, (1,), 6)
    quick = bench(Stage({"native": 30.0}, bandwidth=iter([1e-6] * 6)), settings=settings)
    sound = bench(Stage({"native": 30.0}, bandwidth=iter([1e6] * 6)), settings=settings)
    assert any("faster than the memory" in said for said in quick.warnings) and sound.warnings == ()


def test_without_a_bandwidth_there_is_no_share(bench: Bench) -> None:
    found = bench(Stage({"native": 30.0}))
    assert found.bandwidth == () and found.speeds[0].limit_fraction is None
    assert any("is not measured" in said for said in found.warnings)


def test_progress_names_the_phase_and_its_share(bench: Bench) -> None:
    said: list[tuple[str, float]] = []
    bench(Stage({"native": 30.0}), said=lambda phase, done: said.append((phase, done)))
    assert said[0] == ("the machine", 0.0) and ("speed, 2 threads", 1.0) in said
    assert all(0 <= done <= 1 for _, done in said)


def test_a_prompt_longer_than_the_model_is_refused(bench: Bench) -> None:
    with pytest.raises(UsageError, match="a prompt of 300 tokens and 4 new ones: the model is made for 256"):
        bench(Stage({"native": 1.0}), settings=measure.Settings((300,), 4, (1,), 1))


def test_an_engine_behind_a_network_is_refused(bench: Bench) -> None:
    with pytest.raises(UsageError, match="another machine's"):
        bench(Stage({"native": 1.0}), vs=["openai"])
