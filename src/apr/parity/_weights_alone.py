"""One file's weights without a reference: what cannot be right, and what is out of line with its own neighbours.

What no file can say of itself is named with the verdict: exchanged tensors, permuted rows and wrong values look like any
others. The bounds here are wide on purpose: trained layers differ from each other much more than copies do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from apr.engines._subject import Subject
from apr.errors import AprError
from apr.models._checkpoint import Checkpoint
from apr.parity._causes import Cause
from apr.parity._link import Finding, LinkResult, different, undecided
from apr.parity._rounding_bounds import is_known
from apr.parity._weights_census import EMBEDDING, HEAD, IGNORED
from apr.parity._weights_findings import Outcome, findings, layer_of
from apr.parity._weights_measures import Pool
from apr.parity._weights_rows import Tensor, chunks

LINK = "weights"
UNKNOWABLE = (
    "whether two tensors of one shape were exchanged, rows or heads permuted, a square matrix transposed, or values changed "
    "without changing their size: that needs the original"
)
# what healthy models have at most, measured on SmolLM2-135M, Qwen2.5-Coder-0.5B and Gemma-3-270M:
# a matrix's root mean square over those of the two layers on each side of it: 2.4
_OUT_OF_LINE = 4.0
# the distance of a norm from the mean of its neighbours with 1 added or taken away, over that without: 0.38
_NEARER = 0.25
# norms that turn the sign of a fifth of their values: 1 in 49 (the first). Without their 1, from 1 in 7 to nearly all do
_NEGATIVE, _MOST_NEGATIVE = 0.2, 0.1
_LEAST_LAYERS = 3


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one tensor: root mean square, values that are not finite, rows and columns of zeros, and a digest of its bytes."""

    rms: float
    n: int
    n_nonfinite: int
    zero_rows: np.ndarray
    zero_columns: np.ndarray
    digest: bytes


def examine(subject: Subject) -> LinkResult:
    """Look at every tensor that the architecture computes with."""
    try:
        checkpoint = subject.checkpoint
        facts, unread = measured(checkpoint, threads=subject.threads)
    except AprError as exc:
        return different(LINK, [Finding("file.unreadable", f"the weights cannot be read: {exc}")])
    outcomes = judged(checkpoint, facts)
    measure = {"n_tensors": len(checkpoint.expected), "n_read": len(facts), "not_knowable": UNKNOWABLE}
    if found := findings(outcomes):
        return different(LINK, found, measure)
    seen = f" ({len(unread)} tensors are in encodings that are not decoded here)" if unread else ""
    return undecided(LINK, "cannot_tell", UNKNOWABLE + seen, measure)


def measured(checkpoint: Checkpoint, *, threads: int) -> tuple[dict[str, Facts], list[str]]:
    """Facts by canonical name, and the names of tensors whose encoding is not decoded here. Reads every weight."""
    pool = Pool(threads)
    try:
        return _read(checkpoint, pool)
    finally:
        pool.close()


def judged(checkpoint: Checkpoint, facts: Mapping[str, Facts]) -> list[Outcome]:
    """What is wrong: at most one outcome a tensor, the graver first."""
    checks: tuple[Callable[[Checkpoint, Mapping[str, Facts]], Iterator[Outcome]], ...] = (
        _nonfinite,
        _zeroed,
        _tied,
        _norms,
        _scaled,
        _duplicates,
    )
    outcomes = list(_census(checkpoint))
    for check in checks:
        known = {outcome.tensor for outcome in outcomes}
        outcomes += [outcome for outcome in check(checkpoint, facts) if outcome.tensor not in known]
    return outcomes


def _read(checkpoint: Checkpoint, pool: Pool) -> tuple[dict[str, Facts], list[str]]:
    names = [name for name in dict.fromkeys((*checkpoint.expected, HEAD)) if name in checkpoint.tensors]
    read = [name for name in names if is_known(checkpoint.tensors[name].info.codec)]
    facts = dict(zip(read, pool.map(lambda name: _facts(checkpoint, name), read), strict=True))
    return facts, [name for name in names if name not in facts]


def _facts(checkpoint: Checkpoint, name: str) -> Facts:
    place = checkpoint.tensors[name]
    tensor = Tensor(place)
    n_bad, total = 0, 0.0
    row_sums, column_sums = [], np.zeros(tensor.shape[1])
    for rows in chunks(tensor.shape):
        values = tensor.values(rows)
        if not math.isfinite(float(np.abs(values).sum(dtype=np.float64))):
            n_bad += int(values.size - np.count_nonzero(np.isfinite(values)))
            values = np.nan_to_num(values, posinf=0, neginf=0)
        with np.errstate(over="ignore"):  # a value of 1e30 is found by its size, which may be infinite
            squares = values * values
        row_sums.append(np.abs(values).max(axis=1, initial=0))
        column_sums += np.abs(values).sum(axis=0)
        total += float(squares.sum(dtype=np.float64))
    n = place.info.n_elements
    digest = hashlib.blake2b(np.ascontiguousarray(place.file.raw(place.info.name)).data, digest_size=16).digest()
    tensor.release()
    zero_rows = np.flatnonzero(np.concatenate(row_sums) == 0) if row_sums else np.empty(0, dtype=np.int64)
    return Facts(math.sqrt(total / max(1, n)), n, n_bad, zero_rows, np.flatnonzero(column_sums == 0), digest)


def _census(checkpoint: Checkpoint) -> Iterator[Outcome]:
    model_type = checkpoint.config.model_type
    for name, shape in checkpoint.expected.items():
        place = checkpoint.tensors.get(name)
        if place is None and name.endswith(".bias"):
            yield _outcome(name, "weights.bias_missing", "bias", f"is missing; {model_type} adds it")
        elif place is None and name == HEAD:
            yield _outcome(
                name, "weights.tied", "tied", "is missing, and the configuration does not tie it to the embedding"
            )
        elif place is None:
            yield _outcome(name, "weights.missing", "missing", f"is missing; {model_type} needs it")
        elif place.info.shape != shape:
            words = f"is {list(place.info.shape)}, the configuration says {list(shape)}"
            turned = place.info.shape == shape[::-1]
            yield _outcome(name, "weights.transposed" if turned else "weights.unexplained", "shape", words)
    for name in checkpoint.extra:
        if not name.endswith(IGNORED):
            yield _outcome(name, "weights.extra", "extra", f"is there; {model_type} has no place for it")


def _nonfinite(checkpoint: Checkpoint, facts: Mapping[str, Facts]) -> Iterator[Outcome]:
    del checkpoint
    for name, found in facts.items():
        if found.n_nonfinite:
            yield _outcome(
                name, "weights.nonfinite", "nonfinite", f"has {found.n_nonfinite} values that are not finite"
            )


def _zeroed(checkpoint: Checkpoint, facts: Mapping[str, Facts]) -> Iterator[Outcome]:
    """Whole tensors; of a layer's matrices also rows and columns. Tokens without a row, and biases, may be zero."""
    for name, found in facts.items():
        module = name.rpartition(".")[0].rpartition(".")[2]
        if not found.rms and not found.n_nonfinite:
            if not name.endswith(".bias"):
                yield _outcome(name, "weights.zeroed", "whole", "is zero throughout")
            elif any(other.rms for key, other in facts.items() if key.endswith(f"{module}.bias")):
                yield _outcome(name, "weights.bias_missing", "bias", "is zero throughout, in other layers it is not")
            continue
        if layer_of(name) is None or len(checkpoint.tensors[name].info.shape) < 2:
            continue
        for axis, lines in (("rows", found.zero_rows), ("columns", found.zero_columns)):
            if lines.size:
                words = f"is zero in {lines.size} {axis}, the first {int(lines[0])}"
                yield _outcome(name, "weights.zeroed", axis, words, **{axis: lines[:64].tolist()})
                break


def _tied(checkpoint: Checkpoint, facts: Mapping[str, Facts]) -> Iterator[Outcome]:
    """A head beside a tie must be the embedding, which is what half of all engines read in its place."""
    if not checkpoint.config.tie_word_embeddings or HEAD not in facts or EMBEDDING not in facts:
        return
    head, embedding = Tensor(checkpoint.tensors[HEAD]), Tensor(checkpoint.tensors[EMBEDDING])
    if head.place.info.codec != embedding.place.info.codec and head.shape == embedding.shape:
        return  # two encodings of one table differ by their rounding
    if facts[HEAD].digest != facts[EMBEDDING].digest:
        yield _outcome(HEAD, "weights.tied", "tied", "differs from the embedding, although the configuration ties them")


def _norms(checkpoint: Checkpoint, facts: Mapping[str, Facts]) -> Iterator[Outcome]:
    """A norm that is off by one: with 1 added or taken away it is like those of the layers beside it."""
    norms = {
        name: Tensor(checkpoint.tensors[name]).values(slice(0, 1))[0] for name in facts if name.endswith("norm.weight")
    }
    negative = [name for name, values in norms.items() if np.mean(values < 0) > _NEGATIVE]
    if len(negative) >= max(2, _MOST_NEGATIVE * len(norms)):
        words = "turns the sign of many of its values, as no norm of a trained model does: a 1 seems to be taken away from it"
        for name in negative:
            yield _outcome(name, "weights.offset", "-1", words, offset=-1.0)
        return
    for layers in _modules(facts, "norm.weight").values():
        values = {layer: norms[name] for layer, name in layers.items()}
        for layer, name in layers.items():
            beside = [
                values[i] for i in (layer - 1, layer + 1) if i in values and values[i].shape == values[layer].shape
            ]
            if not beside:
                continue
            usual = np.mean(beside, axis=0)
            distance = {by: float(np.sqrt(np.mean((values[layer] + by - usual) ** 2))) for by in (0.0, 1.0, -1.0)}
            best = min(distance, key=lambda by: distance[by])
            if best and distance[best] < _NEARER * distance[0]:
                done = "taken away from" if best > 0 else "added to"
                words = f"looks as if 1 was {done} it: only then it is like those of the layers beside it"
                yield _outcome(name, "weights.offset", f"{-best:g}", words, offset=-best)


def _scaled(checkpoint: Checkpoint, facts: Mapping[str, Facts]) -> Iterator[Outcome]:
    """A matrix much larger or smaller than that of both layers beside it."""
    del checkpoint
    for layers in _modules(facts, "proj.weight").values():
        if len(layers) < _LEAST_LAYERS:
            continue
        sizes = {layer: facts[name].rms for layer, name in layers.items()}
        for layer, name in layers.items():
            beside = [sizes[i] for i in (layer - 2, layer - 1, layer + 1, layer + 2) if sizes.get(i)]
            if len(beside) < 2 or not sizes[layer]:
                continue
            ratios = [sizes[layer] / other for other in beside]
            factor = float(np.median(ratios))
            if min(ratios) > _OUT_OF_LINE or max(ratios) < 1 / _OUT_OF_LINE:
                words = (
                    f"is {factor:.3g} times as large as in the layers beside it (root mean square {sizes[layer]:.3g})"
                )
                yield _outcome(name, "weights.scaled", f"{layer}", words, factor=factor)


def _duplicates(checkpoint: Checkpoint, facts: Mapping[str, Facts]) -> Iterator[Outcome]:
    """Matrices of two names and the same bytes; a tied head is one, and is meant."""
    seen: dict[tuple[bytes, object], str] = {}
    for name, found in facts.items():
        info = checkpoint.tensors[name].info
        if len(info.shape) < 2 or name == HEAD or not found.rms:
            continue
        first = seen.setdefault((found.digest, info.shape), name)
        if first != name:
            words = f"holds the same bytes as {first}"
            yield _outcome(name, "weights.swapped", first, words, other=first)


def _modules(facts: Mapping[str, Facts], ending: str) -> dict[str, dict[int, str]]:
    """module -> layer -> name, of the tensors whose names end so."""
    found: dict[str, dict[int, str]] = {}
    for name in facts:
        layer = layer_of(name)
        if layer is not None and name.endswith(ending):
            found.setdefault(name.split(".", 3)[3], {})[layer] = name
    return found


def _outcome(name: str, cause: Cause, kind: str, phrase: str, **where: object) -> Outcome:
    return Outcome(name, "different", cause, kind, phrase, where)
