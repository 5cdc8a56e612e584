"""The whole replay as data: what `--json` prints and `page.py` renders."""

from __future__ import annotations

from dataclasses import dataclass, field

from curves import Curves
from experiment import Runs
from faults import WrongGate, WrongPositions


@dataclass(frozen=True, slots=True)
class Result:
    """One replay. exit_code: 0 if both planted faults were called what they are and nothing else was, else 1."""

    model: str
    command: str
    machine: str
    runs: Runs
    curves: Curves
    gate: WrongGate
    positions: WrongPositions
    seconds: float
    schema: str = field(default="apr.section-61/1")

    @property
    def exit_code(self) -> int:
        """Whether the instruments did what they are for."""
        gate, positions = self.gate, self.positions
        is_gate_right = (gate.verdict.verdict, gate.verdict.cause, gate.repaired.verdict) == (
            "not_comparable",
            "harness",
            "same",
        )
        is_gate_named = "engine" in [difference.field for difference in gate.verdict.differing]
        are_positions_right = (positions.verdict.verdict, positions.verdict.field) == ("not_comparable", "positions")
        return 0 if is_gate_right and is_gate_named and are_positions_right and positions.alike.verdict == "same" else 1

    @property
    def summary(self) -> str:
        """In a few sentences."""
        predictions = {p.id: p.verdict.partition(":")[0] for p in reversed(self.runs.predictions)}
        told = ", ".join(f"{name} {verdict}" for name, verdict in sorted(predictions.items()))
        flips = "; ".join(
            f"{c.name}: {c.n_flips} of {c.n_steps} steps flip, {c.verdict}" for c in self.curves.candidates
        )
        faults = "both planted faults are called what they are" if self.exit_code == 0 else "A PLANTED FAULT WAS MISSED"
        return f"Predictions as the specification ran them: {told}. Against exact arithmetic, {flips}. And {faults}."
