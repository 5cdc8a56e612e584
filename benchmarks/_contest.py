"""A contest: contestants in processes of their own, asked in turns, so that what disturbs one disturbs all.

Absolute figures drift by a tenth on shared machines; the ratio of two neighbours in the same round drifts far less.
Claims are therefore medians of per-round ratios.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import _machine

SCRIPTS = Path(__file__).resolve().parent / "contestants"
PAUSE_S = 0.1  # after each segment: spinning worker threads of the last contestant go to sleep


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who takes part, and how it is started.

    name:         as the tables have it; those that are ours begin with "apr"
    script:       stem of the file in contestants/
    python:       the interpreter that has what the script imports
    options:      of the script's `load`
    environment:  set on top of ours
    kl_limit:     the mean Kullback-Leibler divergence from the reference that still counts as the same model
    """

    name: str
    script: str
    python: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    kl_limit: float = 0.02

    @property
    def is_ours(self) -> bool:
        """Whether this is our engine."""
        return self.name.startswith("apr")


class ContestantFailed(Exception):
    """A contestant ended, or answered with an error."""


class Child:
    """A contestant's process. Every request waits for its answer."""

    def __init__(self, contestant: Contestant) -> None:
        self.contestant = contestant
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [str(contestant.python), str(SCRIPTS / f"{contestant.script}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("APR_BENCH_STDERR") else subprocess.DEVNULL,
            env={**os.environ, **contestant.environment},
            text=True,
            bufsize=1,
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait. Raises ContestantFailed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps({"do": do, **request}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ContestantFailed(f"{self.contestant.name}: the process ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContestantFailed(f"{self.contestant.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        try:
            self._process.communicate(timeout=10)  # closes its input
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Segment:
    """One measurement: the figure, what the contestant answered, and how many cores others kept busy meanwhile."""

    value: float
    answer: Mapping[str, Any]
    others_cores: float


@dataclass(frozen=True, slots=True)
class Rounds:
    """What a contest measured: for each entry one segment a round, and the read bandwidth beside each round."""

    segments: Mapping[str, Sequence[Segment]]
    bandwidth: Sequence[float | None]

    def values(self, name: str) -> list[float]:
        """The figures of an entry, round by round."""
        return [segment.value for segment in self.segments[name]]


def rate(child: Child, do: str, *, beside: Sequence[int] = (), **request: Any) -> Segment:
    """Ask for a segment and return its tokens a second. `beside`: processes of ours that run on purpose meanwhile."""
    watch = _machine.Watch((child.pid, *beside))
    answer = child.ask(do, **request)
    segment = Segment(answer["n_tokens"] / answer["seconds"], answer, watch.others())
    time.sleep(PAUSE_S)
    return segment


def alternate(
    entries: Mapping[str, Callable[[], Segment]],
    *,
    rounds: int,
    threads: int,
    quiet_s: float = 0.0,
) -> Rounds:
    """Run every entry once a round, each round beginning with the next one, after one untimed round to warm up.

    A peer that fails to warm up is left out, aloud.
    quiet_s:  how long a round waits for the machine to be quiet, at most
    """
    entries = {name: entry for name, entry in entries.items() if warms_up(name, entry)}
    segments: dict[str, list[Segment]] = {name: [] for name in entries}
    bandwidth = []
    for i in range(rounds):
        _machine.wait_until_quiet(quiet_s)
        bandwidth.append(_machine.read_bandwidth(threads))
        one_round(entries, i, segments)
        say(f"  round {i + 1}/{rounds}: " + ", ".join(f"{name} {segments[name][-1].value:.4g}" for name in entries))
    return Rounds(segments, bandwidth)


def in_turns(entries: Mapping[str, Callable[[], Segment]], *, rounds: int) -> dict[str, list[Segment]]:
    """The same for entries in this process, without a word and without a read of memory in between."""
    segments: dict[str, list[Segment]] = {name: [] for name in entries}
    for i in range(-1, rounds):
        one_round(entries, i, segments if i >= 0 else {name: [] for name in entries})  # the first warms up
    return segments


def one_round(entries: Mapping[str, Callable[[], Segment]], number: int, segments: Mapping[str, list[Segment]]) -> None:
    """Every entry once, appended to its segments; each round begins with another one."""
    for name in rotated(list(entries), number):
        segments[name].append(entries[name]())


def warms_up(name: str, entry: Callable[[], Segment]) -> bool:
    """Whether an entry runs at all. Raises ContestantFailed if one of ours does not."""
    try:
        entry()
    except ContestantFailed as error:
        if "apr" in name.split():
            raise
        say(f"  left out: {error}")
        return False
    return True


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The same names, beginning with another one."""
    by %= len(names)
    return [*names[by:], *names[:by]]


@contextmanager
def loaded(contestants: Sequence[Contestant], model: Path) -> Iterator[dict[str, tuple[Child, dict[str, Any]]]]:
    """Start and load all; yield name -> (child, its answer to `load`). A peer that fails is left out, aloud."""
    children: dict[str, tuple[Child, dict[str, Any]]] = {}
    try:
        for contestant in contestants:
            child = Child(contestant)
            try:
                children[contestant.name] = child, child.ask("load", path=str(model), **contestant.options)
            except ContestantFailed as error:
                child.close()
                if contestant.is_ours:
                    raise
                say(f"  left out: {error}")
        yield children
    finally:
        for child, _ in children.values():
            child.close()


@contextmanager
def spinning(n_processes: int) -> Iterator[list[int]]:
    """Keep so many processes at normal priority spinning; yield their ids."""
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_processes)]
    try:
        time.sleep(0.3)
        yield [spinner.pid for spinner in spinners]
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def say(text: str) -> None:
    """Progress, for the person who waits."""
    print(text, file=sys.stderr, flush=True)
