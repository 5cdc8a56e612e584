"""A clock that only a session moves: what a measurement of it must show is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from apr.engines import _generate, fake
from apr.engines._base import Rows, Session, Span
from apr.models._checkpoint import Checkpoint
from apr.models._decoder import Tap, no_tap


class Clock:
    """Seconds that pass only when somebody says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        """As `time.perf_counter`."""
        return self.now

    def install(self, patch: pytest.MonkeyPatch, *modules: Any) -> Clock:
        """Let the generation, and more modules, read this clock."""
        for module in (_generate, *modules):
            patch.setattr(module, "time", SimpleNamespace(perf_counter=self.perf_counter))
        return self


class TimedSession:
    """A session whose passes take a number of seconds for each token of a prompt and for each single token."""

    def __init__(self, inner: Session, clock: Clock, *, prefill_s: float, decode_s: float) -> None:
        self.inner, self.clock = inner, clock
        self.prefill_s, self.decode_s = prefill_s, decode_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """The inner pass, and the time it is said to take."""
        n = sum(len(span.token_ids) for span in spans)
        self.clock.now += self.decode_s if n == 1 else n * self.prefill_s
        logits: np.ndarray = self.inner.forward(spans, tap=tap, rows=rows)
        return logits


def timed(clock: Clock, *, prefill_s: float, decode_s: float, load_s: float = 0.0) -> Callable[..., Session]:
    """A loader of such sessions over the fake engine."""

    def load(checkpoint: Checkpoint, **options: Any) -> Session:
        clock.now += load_s
        made: Any = TimedSession(fake.load(checkpoint, **options), clock, prefill_s=prefill_s, decode_s=decode_s)
        session: Session = made
        return session

    return load
