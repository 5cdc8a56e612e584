"""Two subjects under comparison: the reference, which is right by definition, and the candidate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from apr.engines._subject import Subject
from apr.parity._probes import PROBES, Probe


def _silent(phase: str, done: float) -> None:
    del phase, done


@dataclass(frozen=True)
class Pair:
    """What a link compares.

    seed:      of everything that is drawn at random
    progress:  called with what is being done and the share of it that is done, 0 to 1
    probes:    what both are asked
    """

    reference: Subject
    candidate: Subject
    seed: int = 0
    progress: Callable[[str, float], None] = _silent
    probes: tuple[Probe, ...] = PROBES

    def with_candidate(self, candidate: Subject) -> Pair:
        """The same comparison of another candidate: a counterfactual."""
        return replace(self, candidate=candidate)

    @property
    def asked(self) -> tuple[str, ...]:
        """What tells the probes of this pair from others: what is remembered of two subjects is remembered for these."""
        return tuple(map(repr, self.probes))

    def close(self) -> None:
        """Release both subjects."""
        self.reference.close()
        self.candidate.close()
