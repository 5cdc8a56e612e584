"""What a candidate's engine ought to compute: the reference's values, if it computes with the reference's weights.

With other weights it ought to compute something else, and the reference says nothing of its engine. Our own engine on
the candidate's file does: what that shows too is in the file, and only the rest is the engine's doing.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from apr.engines._subject import OWN_ENGINE, Subject
from apr.errors import AprError, EngineError, FormatError, MissingTensor, ShapeMismatch
from apr.models._checkpoint import Checkpoint, Place
from apr.models._config import ModelConfig
from apr.models._rope import inverse_frequencies
from apr.parity._causes import Cause
from apr.parity._floor import OWN_ENGINES
from apr.parity._link import Finding, LinkResult, different, undecided
from apr.parity._pair import Pair
from apr.parity._weights_bytes import same_bytes

_FLOAT32 = 2.0**-23
# GGUF holds the factors of a scaling where HF holds its parameters: the quotients differ by some roundings
_ROTARY = 1e-5
# what a configuration says beside what is computed, and what is compared by what comes of it
_ASIDE = frozenset({"max_position_embeddings", "tie_word_embeddings", "rope_scaling", "rope_theta"})


def is_plain(subject: Subject) -> bool:
    """Whether a subject is our own exact engine as it is: the expectation itself."""
    return subject.engine in OWN_ENGINES and subject.loader is None and subject.activations == "float32"


def same_weights(first: Checkpoint, second: Checkpoint) -> bool:
    """Whether two checkpoints hold the same values under every name, a tied output head being the embedding."""
    names = first.expected.keys() | second.expected.keys()
    return all(_same(_place(first, name), _place(second, name)) for name in names)


def same_arithmetic(first: ModelConfig, second: ModelConfig) -> bool:
    """Whether two configurations ask for the same computation; a file keeps its numbers in float32 or as text."""
    a, b = _rotary(first), _rotary(second)
    if a.shape != b.shape or not np.allclose(a, b, rtol=_ROTARY, atol=0.0):
        return False
    for field in dataclasses.fields(ModelConfig):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if not field.compare or field.name in _ASIDE or a == b:
            continue
        if not (isinstance(a, float) and isinstance(b, float) and math.isclose(a, b, rel_tol=_FLOAT32)):
            return False
    return True


def expectation(pair: Pair) -> Subject:
    """The subject whose values the candidate's engine ought to give; the candidate itself where it is beyond doubt."""
    reference, candidate = pair.reference.checkpoint, pair.candidate.checkpoint
    if same_arithmetic(reference.config, candidate.config) and same_weights(reference, candidate):
        return pair.reference
    return pair.candidate if is_plain(pair.candidate) else own_engine(pair.candidate)


def own_engine(subject: Subject) -> Subject:
    """A subject's file under our own exact engine; the subject itself if that is what it is."""
    return subject if is_plain(subject) else subject.on_engine(OWN_ENGINE, activations="float32")


def loaded(link: str, pair: Pair) -> LinkResult | None:
    """Load both sessions; a result if one cannot be: a finding of the candidate's, not comparable for the reference's."""
    try:
        pair.reference.session  # noqa: B018 - made here, so that its errors are the reference's
    except AprError as exc:
        return undecided(link, "not_comparable", f"the reference cannot be run: {exc}")
    try:
        pair.candidate.session  # noqa: B018
    except AprError as exc:
        return failed(link, exc)
    return None


def failed(link: str, exc: AprError) -> LinkResult:
    """What it means that the candidate cannot be run."""
    causes: list[tuple[type[AprError], Cause]] = [
        (MissingTensor, "weights.missing"),
        (ShapeMismatch, "metadata.value"),
        (FormatError, "file.corrupt"),
        (EngineError, "engine.op"),
    ]
    cause = next((cause for kind, cause in causes if isinstance(exc, kind)), None)
    if cause is None:
        return undecided(link, "skipped", f"the candidate cannot be run: {exc}")
    return different(link, [Finding(cause, f"the candidate cannot be run: {exc}")])


def missing_capability(pair: Pair, *needed: str) -> str | None:
    """Why a link cannot look into one of the two, in words; None if it can."""
    for subject in (pair.reference, pair.candidate):
        lacking = [name for name in needed if name not in subject.capabilities]
        if lacking:
            return f"{subject.name}: the engine {subject.engine} gives no {' and no '.join(lacking)}"
    return None


def has_forcing(subject: Subject) -> bool:
    """Whether what a tap returns is computed on."""
    return "forcing" in subject.capabilities


def _rotary(config: ModelConfig) -> np.ndarray:
    """The rotary frequencies and their factor, of a short and of the longest sequence."""
    found = [inverse_frequencies(config, n_positions=n) for n in (1, config.max_position_embeddings)]
    return np.concatenate([np.append(frequencies, factor) for frequencies, factor in found])


def _place(checkpoint: Checkpoint, name: str) -> Place | None:
    if name == "lm_head.weight" and checkpoint.config.tie_word_embeddings:
        name = "model.embed_tokens.weight"
    return checkpoint.tensors.get(name)


def _same(first: Place | None, second: Place | None) -> bool:
    if first is None or second is None:
        return first is second
    if first.file is second.file and first.info == second.info:
        return True
    if first.info.shape != second.info.shape:
        return False
    try:
        if first.info.codec == second.info.codec and first.norm_offset == second.norm_offset:
            return same_bytes(first, second)
        return bool(np.array_equal(first.array(), second.array()))
    finally:
        first.release()
        second.release()


def plain(value: Any) -> Any:
    """A number as JSON takes it: no infinity, no nan."""
    return float(value) if value is not None and np.isfinite(value) else None
