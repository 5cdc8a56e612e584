"""`apr bench`: prove that what is timed computes the model, then time it, engine against engine in turns.

Every engine is in a process of its own. Processes are started afresh to measure loading and memory; one of each stays
for the rounds of prompts and answers, which alternate, with the machine's read bandwidth measured before each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from apr.bench import _machine, _workload
from apr.bench._contestant import command
from apr.bench._equality import compared
from apr.bench._figures import Measured, bandwidth_rows, ratio_rows, speed_rows, start_rows
from apr.bench._process import Process
from apr.bench._report import (
    EXIT_CODES,
    Agreement,
    BenchEngine,
    BenchModel,
    BenchReport,
    GreedyCheck,
    SpeedRow,
    Verdict,
)
from apr.bench._rounds import Rounds, Segment, interleaved
from apr.engines._base import Activations
from apr.engines._language_model import default_threads
from apr.engines._subject import OWN_ENGINE, Address, Subject, parse
from apr.errors import UsageError
from apr.hub import digest

_OVER_LIMIT = 1.05  # kernels reach 1.03 of a plain read on a quiet machine: benchmarks/bench_kernels.py
PAUSE_S = 0.1  # after each segment: spinning worker threads of the last contestant go to sleep
Tell = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure.

    prompt_tokens:  lengths of prompts; new_tokens: written after each
    threads:        numbers of threads, one contest each; empty for one thread and all cores
    repeats:        rounds; six are the fewest whose least and most hold the median with 95 %
    activations:    of our engine, as `apr run` computes or exact
    """

    prompt_tokens: tuple[int, ...] = (32, 128, 512)
    new_tokens: int = 32
    threads: tuple[int, ...] = ()
    repeats: int = 6
    activations: Activations = "int8"


@dataclass(frozen=True, slots=True)
class _Contest:
    """What does not change from one number of threads to the next.

    engines:   name -> engine
    expected:  what our engine writes after each prompt
    """

    reference: str
    engines: Mapping[str, str]
    texts: Mapping[int, str]
    expected: Mapping[int, Sequence[int]]
    settings: Settings
    tell: Tell

    def activations_of(self, engine: str) -> Activations:
        """Of our engine as asked for; of others as their users run them."""
        return self.settings.activations if engine == OWN_ENGINE else "int8"


class _WrongTokens(Exception):
    """Our engine wrote something else in a timed process than in the proof."""


def bench(reference: str, *, vs: Sequence[str] = (), settings: Settings | None = None, tell: Tell) -> BenchReport:
    """Measure a model.

    reference:  MODEL or MODEL@ENGINE, as `apr run` takes it; it is here already
    vs:         engines that run the same file, to be compared with
    tell:       called with what is under way and the share of it that is done
    Raises      UsageError for engines that run no file and for prompts that are too long; EngineError; FormatError.
    """
    started = time.perf_counter()
    address = parse(reference)
    settings = settings or Settings()
    settings = replace(settings, threads=settings.threads or tuple(sorted({1, default_threads()})))
    engines = {engine: engine for engine in dict.fromkeys((address.engine, *vs))}
    tell("the machine", 0.0)
    here = _machine.machine()
    model, texts = _prepare(reference, address, engines, settings)
    tell("equality", 0.0)
    expected, greedy, agreements = _proof(address.reference, engines, texts, settings)
    refused = {found.engine: found.sentence for found in agreements if not found.is_same}
    measured: list[Measured] = []
    facts: dict[str, BenchEngine] = {}
    if address.engine not in refused and all(check.is_same for check in greedy):
        fit = {name: engine for name, engine in engines.items() if name not in refused}
        contest = _Contest(address.reference, fit, texts, expected, settings, tell)
        try:
            for threads in settings.threads:
                measured.append(_at_threads(contest, threads, facts))
        except _WrongTokens as exc:
            greedy = [*greedy, GreedyCheck(threads, False, str(exc))]
            measured = []
    is_wrong = address.engine in refused or not all(check.is_same for check in greedy)
    verdict: Verdict = "wrong" if is_wrong else "not_comparable" if refused else "measured"
    speeds = speed_rows(measured, model.bytes_per_token, settings.new_tokens)
    return BenchReport(
        model=model,
        machine=here,
        engines=tuple(facts.values()),
        repeats=settings.repeats,
        greedy=tuple(greedy),
        agreements=tuple(agreements),
        refused=refused,
        bandwidth=bandwidth_rows(measured),
        starts=start_rows(measured),
        speeds=speeds,
        ratios=ratio_rows(measured, address.engine),
        warnings=tuple(_warnings(here, model, measured, speeds, settings)),
        verdict=verdict,
        seconds=time.perf_counter() - started,
        exit_code=EXIT_CODES[verdict],
    )


def _prepare(
    reference: str, address: Address, engines: Mapping[str, str], settings: Settings
) -> tuple[BenchModel, dict[int, str]]:
    """Facts about the file and the prompts, read in this process; nothing is loaded."""
    for engine in engines.values():
        with Subject(address.reference, engine) as subject:
            if "logits" not in subject.capabilities:
                raise UsageError(f"the engine {engine!r} runs no model file here: its speed is another machine's")
    with Subject(address.reference) as subject:
        room = subject.config.max_position_embeddings - settings.new_tokens
        if max(settings.prompt_tokens) > room:
            raise UsageError(
                f"a prompt of {max(settings.prompt_tokens)} tokens and {settings.new_tokens} new ones: the model is made "
                f"for {subject.config.max_position_embeddings} positions; give a shorter --prompt-tokens"
            )
        file = subject.file
        by_codec = _workload.bytes_by_codec(subject.checkpoint)
        model = BenchModel(
            reference=reference,
            path=str(file.path),
            format=file.format,
            size_bytes=sum(path.stat().st_size for path in file.files),
            sha256=digest.of_files(file.files),
            bytes_per_token=sum(by_codec.values()),
            bytes_by_codec=by_codec,
        )
        return model, _workload.prompts(subject.tokenizer, settings.prompt_tokens)


def _proof(
    reference: str, engines: Mapping[str, str], texts: Mapping[int, str], settings: Settings
) -> tuple[dict[int, list[int]], list[GreedyCheck], list[Agreement]]:
    with Process("equality", command()) as process:
        for engine in engines.values():  # what is not installed is said at once
            process.ask("prepare", engine=engine)
        answer = process.ask(
            "prove",
            reference=reference,
            engines=dict(engines),
            texts=dict(texts),
            new_tokens=settings.new_tokens,
            threads=list(settings.threads),
            activations=settings.activations,
        )
    expected = {int(length): list(ids) for length, ids in answer["expected"].items()}
    greedy = [GreedyCheck(**check) for check in answer["greedy"]]
    return expected, greedy, [Agreement(**found) for found in answer["agreements"]]


def _at_threads(contest: _Contest, threads: int, facts: dict[str, BenchEngine]) -> Measured:
    """Fresh processes in turns, then the rounds."""
    repeats, tell = contest.settings.repeats, contest.tell
    bandwidth = partial(_machine.read_bandwidth, threads)
    word = f"{threads} thread" if threads == 1 else f"{threads} threads"
    tell(f"loading, {word}", 0.0)
    heat = {name: partial(_start, contest, name, threads) for name in contest.engines}
    starts = Rounds({}, [])
    for i, found in enumerate(interleaved({"start": heat}, rounds=repeats, before=lambda: None)):
        starts = found["start"]
        tell(f"loading, {word}", (i + 1) / repeats)
    tell(f"speed, {word}", 0.0)
    done: dict[str, Rounds] = {}
    with _loaded(contest, threads, facts) as children:
        heats = {
            str(length): {name: partial(_segment, contest, child, name, length) for name, child in children.items()}
            for length in sorted(contest.texts, reverse=True)  # the longest first: caches have their size then
        }
        for entries in heats.values():  # once untimed
            for entry in entries.values():
                entry()
        for i, found in enumerate(interleaved(heats, rounds=repeats, before=bandwidth)):
            done = found
            tell(f"speed, {word}", (i + 1) / repeats)
    return Measured(threads, starts, {int(length): rounds for length, rounds in done.items()})


def _start(contest: _Contest, name: str, threads: int) -> Segment:
    """A process from its start to its first token, and its end."""
    with Process(name, command()) as process:
        engine = contest.engines[name]
        watch = _machine.Watch((process.pid,))
        imported = process.ask("prepare", engine=engine)
        loaded = _load(contest, process, engine, threads)
        length = min(contest.texts)
        first = process.ask("generate", text=contest.texts[length], new_tokens=1)
        others = watch.others()
        _check(contest, engine, length, first["token_ids"], threads)
    figures = {
        "import_s": imported["at"] - process.started,
        "load_s": loaded["load_s"],
        "first_token_s": loaded["load_s"] + first["prefill_s"],
        "peak_bytes": first["peak_bytes"],
    }
    return Segment(figures["first_token_s"], figures, others)


@contextmanager
def _loaded(contest: _Contest, threads: int, facts: dict[str, BenchEngine]) -> Iterator[dict[str, Process]]:
    """A process of each engine, loaded."""
    with ExitStack() as stack:
        children = {}
        for name, engine in contest.engines.items():
            children[name] = stack.enter_context(Process(name, command()))
            answer = _load(contest, children[name], engine, threads)
            facts[name] = BenchEngine(name=name, **answer["engine"])
        yield children


def _load(contest: _Contest, process: Process, engine: str, threads: int) -> dict[str, Any]:
    how = contest.activations_of(engine)
    return process.ask("load", reference=contest.reference, engine=engine, threads=threads, activations=how)


def _segment(contest: _Contest, process: Process, name: str, length: int) -> Segment:
    """One prompt and its answer."""
    watch = _machine.Watch((process.pid,))
    answer = process.ask("generate", text=contest.texts[length], new_tokens=contest.settings.new_tokens)
    segment = Segment(answer["decode_tok_per_s"], answer, watch.others())
    _check(contest, contest.engines[name], length, answer["token_ids"], None)
    time.sleep(PAUSE_S)
    return segment


def _check(contest: _Contest, engine: str, length: int, token_ids: Sequence[int], threads: int | None) -> None:
    """What our engine writes in every timed run is what it wrote in the proof."""
    if engine != OWN_ENGINE:
        return
    expected = {length: list(contest.expected[length])[: len(token_ids)]}
    check = compared({length: token_ids}, expected, threads=threads or 0)
    if not check.is_same:
        raise _WrongTokens(f"while it was timed, {check.sentence}")


def _warnings(
    here: _machine.Machine,
    model: BenchModel,
    measured: Sequence[Measured],
    speeds: Sequence[SpeedRow],
    settings: Settings,
) -> Iterator[str]:
    if _machine.is_busy(here.others_cores):
        yield f"the machine is busy: others keep {here.others_cores:.1f} of {here.cores} cores; these are no figures to quote"
    n_busy = sum(part.busy_rounds() for part in measured)
    n_all = sum(part.n_segments() for part in measured)
    if n_busy:
        yield f"{n_busy} of {n_all} timed runs were disturbed by other processes"
    if model.bytes_per_token < here.l3_bytes:
        yield "the weights would fit the last-level cache, so the fraction of the memory limit is no bound"
    elif any(row.limit_fraction is not None and row.limit_fraction.median > _OVER_LIMIT for row in speeds):
        yield "an engine seems faster than the memory: the reads before its rounds were disturbed more than the rounds"
    if settings.repeats < 6:
        yield f"{settings.repeats} rounds give no 95 % interval; --repeats 6 does"
    if any(bandwidth is None for part in measured for bandwidth in part.bandwidth()):
        yield "without the compiled kernels the machine's read bandwidth is not measured"
