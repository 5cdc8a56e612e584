"""The two real faults of section 61, planted: a gate that runs another engine, and figures over other positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curves import Curves
from experiment import ask
from questions import QUESTIONS

from apr.engines import native
from apr.engines._subject import Subject
from apr.models._checkpoint import Checkpoint
from apr.parity.records import RecordComparison, compare_records
from apr.trace import Selection, compare, load_trace, trace
from apr.trace.compare import TraceComparison

WRONG_BASE = 100.0  # the rotary base of the planted engine: right at position 0, wrong from there on


@dataclass(frozen=True, slots=True)
class WrongGate:
    """A golden-output gate with an engine of its own, beside `apr run`.

    believed:   what a gate that compares texts alone concludes
    verdict:    the two records as they are: nothing may differ
    diverged:   the same records if the engine were under test: where the texts part, and the margin there
    highest:    the largest margin at which measured drift flipped a token, by candidate; None if it flipped none
    repaired:   the gate through the generation that `apr run` uses
    """

    run_text: str
    run_complaint: str | None
    gate_text: str
    gate_complaint: str | None
    verdict: RecordComparison
    diverged: RecordComparison
    highest: dict[str, float | None]
    repaired: RecordComparison


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviation of one slot's values: pooled over all positions, at the first alone, at the last alone."""

    slot: str
    pooled: float
    first: float
    last: float

    @property
    def ratio(self) -> float:
        """Of all positions to the last: what section 60 compared between two engines."""
        return self.pooled / self.last


@dataclass(frozen=True, slots=True)
class WrongPositions:
    """One model under one engine, over all positions of a prompt and over the last alone.

    named:    the slot that the specification followed
    largest:  the layer with the largest ratio
    verdict:  the two traces compared
    alike:    a trace with itself, positions alike
    """

    prompt_token_ids: tuple[int, ...]
    named: Spread
    largest: Spread
    verdict: TraceComparison
    alike: TraceComparison


class LegacySession:
    """Another engine under its own name: it holds the same weights and turns positions by another base."""

    engine = "legacy"
    engine_version = "0"

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def legacy_load(checkpoint: Checkpoint, **options: Any) -> Any:
    """The planted engine's `load`."""
    wrong = checkpoint.altered(config=replace(checkpoint.config, rope_theta=WRONG_BASE, rope_scaling=None))
    return LegacySession(native.load(wrong, **options))


def wrong_gate(
    subject: Subject, curves: Curves, *, max_tokens: int, load: Callable[..., Any] = legacy_load
) -> WrongGate:
    """The golden question through `apr run`, through a gate with an engine of its own, and through a gate without."""
    question = next(q for q in QUESTIONS if q.id == "chat")
    run = ask(subject, question, max_tokens=max_tokens)
    gate_subject = subject.on_engine(subject.engine, loader=load)
    gate = ask(gate_subject, question, max_tokens=max_tokens)
    gate_subject.unload()
    diverged = compare_records(run, gate, under_test=("engine",))
    return WrongGate(
        run_text=run.text,
        run_complaint=question.wrong(run.text),
        gate_text=gate.text,
        gate_complaint=question.wrong(gate.text),
        verdict=compare_records(run, gate),
        diverged=diverged,
        highest={candidate.name: candidate.highest for candidate in curves.candidates},
        repaired=compare_records(run, ask(subject, question, max_tokens=max_tokens)),
    )


def wrong_positions(subject: Subject, folder: Path) -> WrongPositions:
    """Section 60's figure: the spread of the SwiGLU product of layer 3, pooled over the prompt and at its end alone."""
    question = next(q for q in QUESTIONS if q.id == "chat")
    saved = []
    for name, positions in (("all", None), ("last", "-1")):
        path = folder / f"{name}.npz"
        trace(
            subject, question.text, regime="raw", selection=Selection(("ffn_swiglu",), positions=positions), save=path
        )
        saved.append(load_trace(path))
    everywhere, last = saved
    spreads = [
        Spread(slot, float(values.std()), float(values[0].std()), float(values[-1].std()))
        for slot, values in ((slot, everywhere.array(slot)) for slot in everywhere.shapes)
    ]
    found = WrongPositions(
        prompt_token_ids=everywhere.trace.header.prompt_token_ids,
        named=spreads[min(3, len(spreads) - 1)],
        largest=max(spreads, key=lambda spread: spread.ratio),
        verdict=compare(last, everywhere),
        alike=compare(everywhere, everywhere),
    )
    for one in saved:
        one.close()
    return found
