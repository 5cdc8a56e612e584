"""A file of predictions: what is expected of two runs that differ in one declared field, written before they are run.

    schema: apr.predictions/1
    predictions:
      - id: PRED-1
        question: does the template matter?
        hypotheses:
          - {id: template, says: the template spoils the answer, blames: regime}
          - {id: model, says: the model cannot add, predicts: {control: fail, experiment: fail}}
        control: {model: smollm2, prompt: "What is 2+2?", regime: chat, max_tokens: 32}
        experiment: {model: smollm2, prompt: "What is 2+2?", regime: raw, max_tokens: 32}
        varies: regime
        expected:
          - {matches: '\\b4\\b'}
          - {not_degenerate: true}
        outcomes:
          - {control: fail, experiment: pass, means: the template is at fault}
        candidates:
          - {id: exact, from: control, change: {activations: float32}}

A run passes if it meets every condition of `expected` (of both runs, unless a condition names one). A hypothesis says what it
predicts of each run, or blames a field: then a run fails if it has the control's value of that field, and passes otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from apr.engines._prompt import Regime
from apr.engines._sampling import Sampling
from apr.errors import PredictionError

SCHEMA = "apr.predictions/1"
Result = Literal["pass", "fail"]
RunName = Literal["control", "experiment"]
RUNS: tuple[RunName, RunName] = ("control", "experiment")


@dataclass(frozen=True, slots=True)
class Settings:
    """What one run is asked, as `apr run` takes it.

    model:           path (from the file's folder, if it is there), alias or URL
    container:       the format that the model is converted to before it is run; null runs it as it is
    prompt:          the text, or a conversation of role and content
    control_tokens:  "token" is `--special`
    threads:         of the arithmetic; null uses every core
    """

    model: str
    prompt: str | tuple[dict[str, str], ...]
    container: Literal["gguf", "apr"] | None = None
    engine: str = "native"
    regime: Regime = "auto"
    system: str | None = None
    control_tokens: Literal["text", "token"] = "text"
    sampling: Sampling = Sampling()  # noqa: RUF009 - frozen
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    at_eos: Literal["stop", "ignore"] = "stop"
    threads: int | None = None
    activations: Literal["int8", "float32"] = "int8"

    def value(self, name: str) -> Any:
        """A setting by its name in the file; `weights` are of the model."""
        if name.startswith("sampling."):
            return getattr(self.sampling, name.removeprefix("sampling."))
        return getattr(self, "model" if name == "weights" else name)


SAMPLING = tuple(f"sampling.{field.name}" for field in fields(Sampling))
SETTINGS = tuple(
    name for field in fields(Settings) for name in (SAMPLING if field.name == "sampling" else (field.name,))
)
VARIABLE = (*SETTINGS, "weights")


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is expected of a run.

    run:    the run that it is asked of; null asks both
    field:  of the run record, dotted
    op:     contains, equals, matches, parses_as, same_token_ids_as or not_degenerate
    value:  what it is held against
    """

    run: RunName | None
    field: str
    op: str
    value: str | int | float | bool


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One explanation.

    says:      it in words
    predicts:  pass or fail by run, candidates among them
    blames:    a field: with the control's value of it a run fails, with another it passes
    """

    id: str
    says: str
    predicts: dict[str, Result]
    blames: str | None


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """What a pair of results means. control, experiment: pass or fail, null for either; means: in words."""

    control: Result | None
    experiment: Result | None
    means: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A further run that could be made: one of the two with one field changed. field: a setting; value: its other value."""

    id: str
    based_on: RunName
    field: str
    value: Any
    settings: Settings


@dataclass(frozen=True, slots=True)
class Prediction:
    """One prediction, whole. line: where it begins in the file; varies: the one declared field."""

    id: str
    question: str
    line: int
    hypotheses: tuple[Hypothesis, ...]
    control: Settings
    experiment: Settings
    varies: str
    expected: tuple[Condition, ...]
    outcomes: tuple[OutcomeRow, ...]
    candidates: tuple[Candidate, ...]

    def settings(self, run: RunName) -> Settings:
        """Of one of the two runs."""
        return self.control if run == "control" else self.experiment

    def meaning(self, results: Mapping[str, Result]) -> str | None:
        """What the first row of `outcomes` that fits says; None if none fits."""
        for row in self.outcomes:
            if row.control in (None, results["control"]) and row.experiment in (None, results["experiment"]):
                return row.means
        return None

    @property
    def uncovered(self) -> tuple[dict[str, Result], ...]:
        """Pairs of results that no row of `outcomes` has a meaning for."""
        both: tuple[Result, Result] = ("pass", "fail")
        pairs: list[dict[str, Result]] = [{"control": c, "experiment": e} for c in both for e in both]
        return tuple(pair for pair in pairs if self.meaning(pair) is None)


@dataclass(frozen=True, slots=True)
class PredictionFile:
    """A file of predictions. sha256: of its bytes, as they were read."""

    path: Path
    sha256: str
    predictions: tuple[Prediction, ...]


def sha256_of(path: Path) -> str:
    """Of the file's bytes as they are now."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(path: Path) -> PredictionFile:
    """Read a file of predictions. Raises PredictionError with line, found, expected; OSError as the system says."""
    from apr.ledger import _predictions_reader

    if not path.is_file():
        raise PredictionError(path, "is no plain file; expected a YAML file of predictions")
    content = path.read_bytes()
    predictions = _predictions_reader.predictions_of(path, content)
    return PredictionFile(path, hashlib.sha256(content).hexdigest(), predictions)
