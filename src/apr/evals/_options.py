"""What a user may ask of an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from apr.engines._base import Activations

Regime = Literal["raw", "chat"]
REGIMES: tuple[Regime, ...] = ("raw", "chat")
# what is being done, and the share of it that is done
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Options:
    """One evaluation. What a task does not name in its OPTIONS means nothing to it.

    limit:        so many problems, questions or chunks, from the first; None: all
    samples:      answers a problem
    ks:           of pass@k, each at most `samples`
    out:          the journal; None: a file in the state folder, named by task, model and settings
    window:       tokens that are looked at together; stride: how many of them are new each time
    shards:       processes that generate side by side on a Ray cluster; 1 needs none
    ray_address:  of a running cluster; None starts one on this machine
    questions:    a file of questions with their answers
    suites:       tasks of lm-evaluation-harness; include: a folder with more of them
    """

    model: str
    threads: int | None = None
    activations: Activations = "int8"
    limit: int | None = None
    seed: int = 0
    samples: int = 1
    temperature: float = 0.0
    ks: tuple[int, ...] = (1,)
    regimes: tuple[Regime, ...] = REGIMES
    max_tokens: int = 512
    batch_size: int = 8
    timeout_s: float = 10.0
    memory_mib: int = 1024
    out: Path | None = None
    shards: int = 1
    ray_address: str | None = None
    text: Path | None = None
    reference: str | None = None
    window: int = 512
    stride: int | None = None
    questions: Path | None = None
    suites: tuple[str, ...] = ()
    include: Path | None = None
    progress: Progress | None = None
