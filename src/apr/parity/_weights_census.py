"""Which tensors of two models belong together, and which are missing, extra or of another shape.

The candidate's file is read under the reference's configuration: what its own metadata says wrongly is the metadata
link's finding, and must not make its weights look wrong. Only whether the head is tied is taken from its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apr.engines._subject import Subject
from apr.errors import AprError
from apr.models._checkpoint import Checkpoint, Place
from apr.parity._pair import Pair
from apr.parity._weights_findings import Outcome
from apr.parity._weights_rows import Tensor

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
# buffers that old transformers saved with the weights and that every reader computes anew
IGNORED = ("rotary_emb.inv_freq", "attention.bias", "masked_bias")
# a row this much shorter than the others is no token's: padding is zero, or what it was initialised with
_PADDING_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Match:
    """Two tensors that should hold the same.

    name:    canonical, of the candidate's side: `lm_head.weight` may stand against the reference's embedding
    n_rows:  rows to compare, the vocabulary's padding left out; None for all
    """

    name: str
    reference: Place
    candidate: Place
    n_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Census:
    """What is to be compared, and what is wrong without comparing.

    is_tied_candidate:  whether the candidate's own configuration ties its head to the embedding
    """

    reference: Checkpoint
    candidate: Checkpoint
    matches: tuple[Match, ...]
    outcomes: tuple[Outcome, ...]
    is_tied_candidate: bool


def census(pair: Pair) -> Census:
    """Match the tensors of both. Raises AprError if the candidate cannot be read as the reference's architecture."""
    reference = pair.reference.checkpoint
    candidate = candidate_checkpoint(pair.candidate, reference)
    matches, outcomes = [], []
    for name in reference.expected:
        if name == HEAD:
            continue
        theirs, ours = reference.tensors[name], candidate.tensors.get(name)
        if ours is None:
            outcomes += _missing(name, theirs)
        else:
            matches.append(_match(name, theirs, ours, candidate))
    is_tied = _is_tied(pair.candidate, candidate)
    found, wrong = _head(reference, candidate, is_tied=is_tied)
    outcomes += [*wrong, *_extra(reference, candidate)]
    return Census(reference, candidate, (*matches, *found), tuple(outcomes), is_tied)


def incomplete(checkpoint: Checkpoint) -> list[str]:
    """The tensors that the model's own configuration asks for and its file does not have."""
    return [name for name in checkpoint.expected if name not in checkpoint.tensors]


def candidate_checkpoint(subject: Subject, reference: Checkpoint) -> Checkpoint:
    """The candidate's tensors under the reference's configuration, counterfactual ones included."""
    try:
        own = subject.checkpoint
    except AprError:  # its metadata cannot be read, which the metadata link reports; its weights may be right
        return Checkpoint(subject.file, config=reference.config)
    return own.altered(config=reference.config)


def _is_tied(subject: Subject, checkpoint: Checkpoint) -> bool:
    try:
        return subject.config.tie_word_embeddings
    except AprError:
        return HEAD not in checkpoint.tensors


def _match(name: str, theirs: Place, ours: Place, candidate: Checkpoint) -> Match:
    a, b = theirs.info.shape, ours.info.shape
    if name not in (HEAD, EMBEDDING) or a == b or len(a) != 2 or len(b) != 2 or a[1] != b[1]:
        return Match(name, theirs, ours)
    shared = min(a[0], b[0])
    longer = theirs if a[0] > b[0] else ours
    return Match(name, theirs, ours, shared if _is_padding(longer, shared) else None)


def _is_padding(place: Place, start: int) -> bool:
    """Whether the rows behind `start` are no tokens': all short, or all one row."""
    tensor = Tensor(place)
    tail = tensor.read(slice(start, tensor.shape[0])).values
    body = tensor.read(np.unique(np.linspace(0, start - 1, 256).astype(np.int64))).values
    usual = float(np.median(np.linalg.norm(body, axis=1)))
    is_short = np.linalg.norm(tail, axis=1) <= _PADDING_SHARE * usual
    alike = np.linalg.norm(tail - tail[:1], axis=1) <= _PADDING_SHARE * np.linalg.norm(tail[:1])
    return bool(is_short.all() or alike.all())


def _missing(name: str, theirs: Place) -> list[Outcome]:
    codec = theirs.info.codec
    if not name.endswith(".bias"):
        return [Outcome(name, "different", "weights.missing", "missing", "is missing", codec_reference=codec)]
    if not np.any(theirs.array()):
        return []  # a bias of zeros adds nothing
    return [
        Outcome(
            name, "different", "weights.bias_missing", "bias", "is missing", {"missing": True}, codec_reference=codec
        )
    ]


def _head(reference: Checkpoint, candidate: Checkpoint, *, is_tied: bool) -> tuple[list[Match], list[Outcome]]:
    """A head that is stored twice, once, or tied to the embedding is the same as long as it holds the same."""
    theirs = reference.tensors[EMBEDDING if reference.config.tie_word_embeddings else HEAD]
    ours = candidate.tensors.get(HEAD)
    if ours is not None:
        wrong = []
        if is_tied and not reference.config.tie_word_embeddings:
            phrase = "is tied to the embedding by the candidate's configuration; the reference has a head of its own"
            wrong = [_untied(phrase)]
        return [_match(HEAD, theirs, ours, candidate)], wrong
    if reference.config.tie_word_embeddings:
        if is_tied:
            return [], []
        return [], [_untied("is missing, and the candidate's configuration does not tie it to the embedding")]
    embedding = candidate.tensors.get(EMBEDDING)
    return ([_match(HEAD, theirs, embedding, candidate)] if embedding is not None else []), []


def _untied(phrase: str) -> Outcome:
    return Outcome(HEAD, "different", "weights.tied", "tied", phrase)


def _extra(reference: Checkpoint, candidate: Checkpoint) -> list[Outcome]:
    known = set(reference.extra)
    strangers = [name for name in candidate.extra if name not in known and not name.endswith(IGNORED)]
    unexpected = [
        name
        for name in candidate.tensors
        if name not in reference.expected and name != HEAD and name not in reference.tensors
    ]
    found = [name for name in unexpected if not _adds_nothing(name, candidate.tensors[name])] + strangers
    phrase = "is in the candidate; the reference's architecture has no place for it"
    return [Outcome(name, "different", "weights.extra", "extra", phrase) for name in found]


def _adds_nothing(name: str, place: Place) -> bool:
    return name.endswith(".bias") and not np.any(place.array())
