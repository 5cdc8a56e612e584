"""The outcome of an evaluation, as data: scores with intervals, what they are over, and what stands behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from apr.evals._self_test import SelfTest


@dataclass(frozen=True, slots=True)
class Score:
    """One figure.

    name:      pass@k, accuracy, perplexity, reference_perplexity, perplexity_ratio, kl_mean, top1_agreement, or a suite's
               own name for it
    regime:    raw (the text is continued) or chat (through the model's template); null where there are no prompts
    value:     null where the model cannot be asked so: see note
    interval:  95 %, over what `of` counts; null where there is none
    method:    how the interval was made: wilson, bootstrap (problems or chunks drawn anew), standard error; else empty
    n, n_all:  how many of all there are the value is over
    of:        what is counted: problems, questions, chunks …
    n_passed:  of n, where each passes or does not; null elsewhere
    note:      what a careful reader should know
    """

    name: str
    regime: str | None
    value: float | None
    interval: tuple[float, float] | None
    method: str
    n: int
    n_all: int
    of: str
    n_passed: int | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One problem or question under one regime.

    kinds:  of each answer: passed, or why not
    """

    id: str
    regime: str
    n_answers: int
    n_passed: int
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvalReport:
    """What `apr eval` found.

    task:           humaneval, perplexity, lm-eval, or the file of questions
    model:          as it was named
    model_sha256:   of the model file; for a folder, of the list of its files' digests
    reference:      what it was held against, as it was named; null if nothing was
    scores:         the figures
    items:          what they are made of; empty where that is no list of questions
    self_test:      what the harness made of answers whose verdict is known; null where no code is run
    confinement:    what held the model's code: network, files, processes, resources; empty where no code is run
    settings:       what the scores depend on
    journal:        the file that keeps every answer and its run record; null where there are none
    n_resumed:      answers that were in it before
    n_cut_bytes:    of a half-written line that a killed run left in it, and that was removed
    shards:         processes that generated side by side
    seconds:        wall time of this call
    """

    task: str
    model: str
    model_sha256: str
    reference: str | None
    scores: tuple[Score, ...]
    items: tuple[Item, ...]
    self_test: SelfTest | None
    confinement: dict[str, str]
    settings: dict[str, Any]
    journal: str | None
    n_resumed: int
    n_cut_bytes: int
    shards: int
    seconds: float
    exit_code: int
    schema: str = field(default="apr.eval/1")


def exit_code_of(scores: tuple[Score, ...]) -> int:
    """0 if there is a figure, 5 if nothing was tested."""
    return 0 if any(score.value is not None for score in scores) else 5
