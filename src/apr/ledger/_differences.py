"""What two runs differ in: the declared field, what follows from it of necessity, and everything else, which is a confound.

Records are compared by `parity.records`, as `apr parity A.json B.json` does. Here is only told which setting of a prediction a
difference comes from: other token ids follow from another prompt, and from nothing else that was declared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from apr.engines._record import RunRecord
from apr.ledger._separation import differing_settings
from apr.ledger.prediction import Prediction
from apr.parity.records import CONDITIONS, RecordComparison, compare_records

Kind = Literal["declared", "consequence", "confound"]

_FILE = (*CONDITIONS["model"], *CONDITIONS["tokenizer"], "template.sha256", *CONDITIONS["prompt"], "stop_token_ids")
# setting -> the fields of a run record that another value of it changes. Precision follows from nothing but `activations`:
# who compares two files or two engines sets it alike
FOLLOWS: dict[str, tuple[str, ...]] = {
    "model": _FILE,
    "weights": CONDITIONS["model"],
    "container": CONDITIONS["model"],
    "engine": CONDITIONS["engine"],
    "activations": CONDITIONS["precision"],
    "prompt": CONDITIONS["prompt"],
    "system": CONDITIONS["prompt"],
    "control_tokens": CONDITIONS["prompt"],
    "regime": ("template.decision", *CONDITIONS["prompt"]),
    **{name: (name,) for name in CONDITIONS["sampling"]},
    "max_tokens": ("max_tokens",),
    "stop": ("stop_strings",),
    "at_eos": ("stop_token_ids",),
    "threads": ("threads",),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which the two runs differ.

    field:         a setting of the file, or a field of the run record
    kind:          declared: what `varies` names; consequence: follows from it; confound: neither
    follows_from:  the setting that made a record's field differ; null for a setting, and where no setting explains it
    control, experiment: the two values; null where unset or unknown
    """

    field: str
    kind: Kind
    follows_from: str | None
    control: Any
    experiment: Any


@dataclass(frozen=True, slots=True)
class Differences:
    """All of them. is_varied: whether the declared field does differ, in the settings and in what the records show of it."""

    varies: str
    all: tuple[Difference, ...]
    is_varied: bool

    @property
    def confounds(self) -> tuple[Difference, ...]:
        """What must not be."""
        return tuple(difference for difference in self.all if difference.kind == "confound")

    @property
    def refusal(self) -> str | None:
        """Why nothing would follow from the runs; None if something does."""
        parts = []
        if self.confounds:
            names = ", ".join(d.field for d in self.confounds if d.follows_from is None)
            parts.append(f"the runs differ in more than {self.varies}: {names}")
            if any(d.field in CONDITIONS["precision"] and d.follows_from is None for d in self.confounds):
                parts.append("say activations: float32 of both")
        if not self.is_varied:
            parts.append(f"{self.varies} is declared to vary, and is the same in both runs")
        return "; ".join(parts) or None


def allowed_fields(prediction: Prediction) -> tuple[str, ...]:
    """The fields of the records that the declared setting, and no other that differs, may change."""
    taken = {name for other in _others(prediction) for name in FOLLOWS[other]}
    return tuple(name for name in FOLLOWS[prediction.varies] if name not in taken)


def between_settings(prediction: Prediction) -> Differences:
    """What the file alone shows."""
    found = tuple(_of_settings(prediction))
    return Differences(prediction.varies, found, any(d.kind == "declared" for d in found))


def between_records(
    prediction: Prediction, control: RunRecord, experiment: RunRecord
) -> tuple[Differences, RecordComparison]:
    """What the file and the two records show, and the comparison of the records itself."""
    allowed = allowed_fields(prediction)
    compared = compare_records(control, experiment, under_test=allowed)
    follow = [Difference(d.field, "consequence", prediction.varies, d.reference, d.candidate) for d in compared.varied]
    confounds = [
        Difference(d.field, "confound", _cause(d.field, _others(prediction)), d.reference, d.candidate)
        for d in compared.differing
    ]
    confounds += _of_rounding(prediction, control, experiment)
    settings = tuple(_of_settings(prediction))
    # where a confound changes the same fields, nobody can say that the declared one changed nothing
    shows = bool(follow) or len(allowed) < len(FOLLOWS[prediction.varies])
    is_varied = shows and any(d.kind == "declared" for d in settings)
    return Differences(prediction.varies, (*settings, *follow, *confounds), is_varied), compared


def _of_rounding(prediction: Prediction, control: RunRecord, experiment: RunRecord) -> Iterator[Difference]:
    """8-bit activations are for blocks: a copy that had to decode them is computed more exactly, under the same name."""
    digests = (control.tensors_sha256, experiment.tensors_sha256)
    is_known = all(digest is not None and len(digest) == 64 for digest in digests)
    if prediction.varies == "container" and control.activations == "int8" and is_known and digests[0] != digests[1]:
        values = [f"int8, with tensors {str(digest)[:8]}" for digest in digests]
        yield Difference("activations", "confound", None, values[0], values[1])


def _of_settings(prediction: Prediction) -> Iterator[Difference]:
    others = _others(prediction)
    for name in differing_settings(prediction.control, prediction.experiment):
        values = (prediction.control.value(name), prediction.experiment.value(name))
        yield Difference(name, "confound" if name in others else "declared", None, *values)


def _others(prediction: Prediction) -> tuple[str, ...]:
    """Settings that differ and are not declared to."""
    declared = "model" if prediction.varies == "weights" else prediction.varies
    names = differing_settings(prediction.control, prediction.experiment)
    return tuple(name for name in names if name != declared)


def _cause(field: str, others: Sequence[str]) -> str | None:
    return next((name for name in others if field in FOLLOWS[name]), None)
