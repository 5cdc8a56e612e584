"""A model under judgement: facts about it, each worked out once and shared by the gates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from apr.engines._language_model import LanguageModel
from apr.engines._subject import Subject
from apr.formats._base import ModelFile
from apr.hub import digest
from apr.kernels import quants
from apr.models._checkpoint import Checkpoint
from apr.tokenizer.spec import TokenizerSpec

if TYPE_CHECKING:
    from apr.qa.gate import GateResult


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """What the values of one tensor, decoded, show.

    first_non_finite:  index into the flattened values; -1 if all are finite
    min, max:          NaN if a value is NaN; 0 for a tensor without values
    """

    n_non_finite: int
    first_non_finite: int
    n_zero: int
    min: float
    max: float


class Judged:
    """A model under judgement: the model as `apr run` runs it, what it is held against, and how thorough to be.

    model:      with 8-bit activations unless it was made otherwise, because that is what a user runs
    reference:  the original; None if none was given or found
    previous:   an earlier report of this model (`apr.qa/1`), read; None if there is none
    profile:    "file", "smoke" or "release"
    results:    of the gates that have been run, in their order
    Raises FormatError for a file that cannot be opened at all.
    """

    def __init__(
        self,
        model: str | Path | Subject,
        *,
        reference: Subject | None = None,
        previous: Mapping[str, Any] | None = None,
        profile: str = "file",
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        self.model = Subject.of(model, activations="int8", threads=threads)
        _ = self.model.file
        self.reference = reference
        self.previous = previous
        self.profile = profile
        self.seed = seed
        # called with bytes of tensors that have been checked
        self.progress: Callable[[int], None] | None = None
        self.results: tuple[GateResult, ...] = ()

    @property
    def path(self) -> Path:
        """The local file or folder."""
        return self.model.path

    @property
    def file(self) -> ModelFile:
        """The opened model file."""
        return self.model.file

    @property
    def checkpoint(self) -> Checkpoint:
        """The file through its architecture. Raises UnsupportedError for one that we do not run."""
        return self.model.checkpoint

    @property
    def tokenizer_spec(self) -> TokenizerSpec:
        """The tokenizer that the file carries. Raises TokenizerError."""
        return self.model.spec

    @property
    def language_model(self) -> LanguageModel:
        """The model loaded: what every gate that generates must generate with. Raises EngineError."""
        return self.model.language_model

    @property
    def sha256(self) -> str:
        """Of the model's files."""
        return digest.of_files(self.file.files)

    @property
    def computed_by(self) -> str | None:
        """What computed, in words; None if nothing was loaded."""
        session = vars(self.model).get("session")
        if session is None:
            return None
        return (
            f"{session.engine} {session.engine_version}, {session.instruction_set}, {session.activations} activations, "
            f"{session.threads} threads"
        )

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.n_bytes for info in self.file.tensors.values())

    @cached_property
    def tensor_facts(self) -> dict[str, TensorFacts]:
        """Facts by the file's own tensor name; none for an encoding that is not decoded here. Decodes every weight, once."""
        facts = {}
        for info in self.file.tensors.values():
            if info.codec in quants.names():
                facts[info.name] = _facts_of(self.file.array(info.name))
            self.advance(info.n_bytes)
        return facts

    def advance(self, n_bytes: int) -> None:
        """Tell whoever waits that so many bytes have been checked."""
        if self.progress is not None:
            self.progress(n_bytes)

    def close(self) -> None:
        """Release the model and the reference."""
        self.model.close()
        if self.reference is not None:
            self.reference.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _facts_of(values: np.ndarray) -> TensorFacts:
    if values.size == 0:
        return TensorFacts(0, -1, 0, 0.0, 0.0)
    with np.errstate(invalid="ignore"):
        least, most = float(values.min()), float(values.max())  # NaN wins in both
    n_zero = int(values.size - np.count_nonzero(values))
    if math.isfinite(least) and math.isfinite(most):
        return TensorFacts(0, -1, n_zero, least, most)
    bad = np.flatnonzero(~np.isfinite(values.reshape(-1)))
    return TensorFacts(len(bad), int(bad[0]), n_zero, least, most)
