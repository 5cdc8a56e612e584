"""A contest: contestants in processes of their own, asked in turns (`apr.bench._rounds`), each in its own interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apr.bench
from apr.bench import _machine
from apr.bench._process import Process
from apr.bench._rounds import Rounds, Segment, interleaved
from apr.errors import AprError

SCRIPTS = Path(__file__).resolve().parent / "contestants"
ROOM = Path(apr.bench.__file__).parent  # where `_protocol` is found: an interpreter of a peer's has no apr
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


class Child(Process):
    """A contestant's process."""

    def __init__(self, contestant: Contestant) -> None:
        path = os.pathsep.join(filter(None, (str(ROOM), os.environ.get("PYTHONPATH"))))
        super().__init__(
            contestant.name,
            [str(contestant.python), str(SCRIPTS / f"{contestant.script}.py")],
            environment={"PYTHONPATH": path, **contestant.environment},
        )
        self.contestant = contestant


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

    def before() -> float | None:
        _machine.wait_until_quiet(quiet_s)
        return _machine.read_bandwidth(threads)

    found = Rounds({}, [])
    for i, heats in enumerate(interleaved({"": entries}, rounds=rounds, before=before)):
        found = heats[""]
        say(f"  round {i + 1}/{rounds}: " + ", ".join(f"{name} {found.values(name)[-1]:.4g}" for name in entries))
    return found


def warms_up(name: str, entry: Callable[[], Segment]) -> bool:
    """Whether an entry runs at all. Raises AprError if one of ours does not."""
    try:
        entry()
    except AprError as error:
        if "apr" in name.split():
            raise
        say(f"  left out: {error}")
        return False
    return True


@contextmanager
def loaded(contestants: Sequence[Contestant], model: Path) -> Iterator[dict[str, tuple[Child, dict[str, Any]]]]:
    """Start and load all; yield name -> (child, its answer to `load`). A peer that fails is left out, aloud."""
    children: dict[str, tuple[Child, dict[str, Any]]] = {}
    try:
        for contestant in contestants:
            child = Child(contestant)
            try:
                children[contestant.name] = child, child.ask("load", path=str(model), **contestant.options)
            except AprError as error:
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
