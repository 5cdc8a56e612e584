"""Two traces slot by slot, or a model against a trace on that trace's own token ids.

Refused unless both asked the same question: the same token ids, positions, capture points and shapes. What else differs
(engine, weights, precision) is what the comparison is about, and is listed.

A slot is judged at each position by itself, by relative L2 error: the first position of a sequence can be a thousand
times larger than all others and would hide them, and a spread ratio is 1 for a vector whose values were shuffled.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apr.engines._subject import Subject
from apr.trace.capture import Progress, Question, forward, header, require_taps
from apr.trace.record import TraceHeader, parts_of
from apr.trace.selection import Selection
from apr.trace.store import SavedTrace

# By the words that sessions use: the largest relative error of rounding one value, which is half a unit in the last place
# (IEEE 754), or for blocks of 8-bit integers half a step of 1/127 of the block's largest value; and how many such errors
# a slot may have come to in the first layer. Sums are taken in float32: where values are no finer than that, they are
# rounded at each of thousands of additions; where they are coarser, once on their way into a sum.
ROUNDING = {
    "float64": (2.0**-53, 1024),
    "float32": (2.0**-24, 1024),
    "float16": (2.0**-11, 64),
    "bfloat16": (2.0**-8, 64),
    "int8": (0.5 / 127, 64),
}
MOST_ALLOWED = 0.5

Verdict = Literal["same", "different", "not_comparable"]
_EXIT_CODES: dict[Verdict, int] = {"same": 0, "different": 1, "not_comparable": 5}
# of the header: what a comparison may be about
_UNDER_TEST = (
    "model_sha256",
    "tensors_sha256",
    "tokenizer_sha256",
    "engine",
    "engine_version",
    "kernel_set",
    "instruction_set",
    "activations",
    "kv_cache",
    "threads",
    "environment",
)


@dataclass(frozen=True, slots=True)
class SlotComparison:
    """One slot, the candidate's values against the reference's, over all positions.

    cosine:        of all values as one vector; null if one side is zero
    relative_l2:   of the difference, over the reference; null if the reference is zero and the candidate is not
    max_abs:       largest absolute difference
    snr_db:        -20 log10 of relative_l2; null where nothing differs, or nothing can be divided by
    spread_ratio:  standard deviation over standard deviation; null if the reference's is zero
    position:      where the relative error is largest
    position_l2:   relative_l2 there alone, which is what is judged; null as relative_l2 is
    n_nonfinite:   values that are not finite on one side, or not the same on both; one is a difference
    threshold:     what position_l2 may be
    """

    slot: str
    layer: int | None
    name: str
    cosine: float | None
    relative_l2: float | None
    max_abs: float
    snr_db: float | None
    spread_ratio: float | None
    position: int
    position_l2: float | None
    n_nonfinite: int
    threshold: float
    is_different: bool


@dataclass(frozen=True, slots=True)
class TraceComparison:
    """Two traces compared.

    sentence:   the verdict in words; for not_comparable, what the two would have to share
    field:      what they do not share, so that nothing was compared; null if they share it all
    differs:    fields of the headers that differ: what this is a comparison of
    precision:  the coarsest that either side computes with
    roundoff:   its relative rounding error
    roundings:  how many of them a slot of the first layer may have come to; they grow as the square root of depth
    first:      the first slot of the pass that is different; null if none is
    """

    reference: str
    candidate: str
    verdict: Verdict
    sentence: str
    field: str | None
    differs: tuple[str, ...]
    precision: str | None
    roundoff: float | None
    roundings: int | None
    n_positions: int
    n_different: int
    first: str | None
    slots: tuple[SlotComparison, ...]
    exit_code: int
    schema: str = dataclasses.field(default="apr.trace-comparison/1")


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a comparison: what ran, and the shapes of what was captured."""

    name: str
    header: TraceHeader
    shapes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Refusal:
    field: str
    sentence: str


def compare(candidate: SavedTrace, reference: SavedTrace, selection: Selection | None = None) -> TraceComparison:
    """Two kept traces. Raises FormatError for a damaged file, UsageError for a selection of what there is not.

    selection:  of slots and layers, on both sides; positions have to be chosen when a trace is made
    """
    left, right = (
        _Side(str(one.path), one.trace.header, {slot: one.shapes[slot] for slot in _chosen(one, selection)})
        for one in (candidate, reference)
    )
    refusal = _question_differs(left, right) or _shapes_differ(left, right) or _precision_unknown(left, right)
    if refusal is not None:
        return _refused(left, right, refusal)
    judge = _Judge(left, right)
    found = [judge.slot(slot, candidate.array(slot), reference.array(slot)) for slot in right.shapes]
    return _compared(left, right, found)


def compare_run(
    subject: Subject,
    reference: SavedTrace,
    selection: Selection | None = None,
    *,
    progress: Progress | None = None,
) -> TraceComparison:
    """A model, run now on the token ids, positions and slots of a kept trace. Raises as `compare`, and what loading raises.

    progress:  called with the bytes of each slot that has been seen
    """
    require_taps(subject)
    asked = reference.trace.header
    chosen = {slot: reference.shapes[slot] for slot in _chosen(reference, selection)}
    right = _Side(str(reference.path), asked, chosen)
    question = Question(asked.prompt_text, asked.prompt_token_ids, None)
    made = header(subject, question, asked.positions, prompt_tokens=asked.prompt_tokens)
    seen: dict[str, tuple[int, ...]] = {}
    left = _Side(subject.name, made, seen)
    refusal = _vocabulary_differs(subject, asked) or _precision_unknown(left, right)
    if refusal is not None:
        return _refused(left, right, refusal)
    judge = _Judge(left, right)
    found: dict[str, SlotComparison] = {}
    n_broken = 0
    rows = list(asked.positions)

    def tap(slot: str, value: np.ndarray) -> np.ndarray:
        nonlocal n_broken
        n_broken += not np.isfinite(value).all()
        if slot in chosen:
            values = value[rows]
            seen[slot] = values.shape
            if values.shape == chosen[slot]:
                found[slot] = judge.slot(slot, values, reference.array(slot))
        if progress is not None:
            progress(value.nbytes)
        return value

    forward(subject.session, asked.prompt_token_ids, tap, is_broken=lambda: n_broken > 0)
    refusal = _shapes_differ(left, right)
    return _refused(left, right, refusal) if refusal else _compared(left, right, [found[slot] for slot in chosen])


def threshold(precision: str, n_layers_before: int) -> float:
    """What the relative error of a slot may be, between engines of a precision, or a finer one, behind so many layers.

    Rounding errors are of either sign, so those of n layers add up to the square root of n times those of one. More than
    `MOST_ALLOWED` is never allowed: at 1 an error is as large as what it is an error of, and zeros would pass.
    """
    roundoff, roundings = ROUNDING[precision]
    return min(MOST_ALLOWED, roundings * roundoff * math.sqrt(1 + n_layers_before))


class _Judge:
    """Compares slots of two comparable sides."""

    def __init__(self, candidate: _Side, reference: _Side) -> None:
        self._positions = reference.header.positions
        self._precision = _coarsest(candidate.header, reference.header)
        layers = [layer for layer in (parts_of(slot)[0] for slot in reference.shapes) if layer is not None]
        self._n_layers = max(layers, default=-1) + 1

    def slot(self, slot: str, candidate: np.ndarray, reference: np.ndarray) -> SlotComparison:
        """Two arrays of one shape, [positions, ...]."""
        layer, name = parts_of(slot)
        before = layer if layer is not None else 0 if slot == "embed" else self._n_layers
        limit = threshold(self._precision, before)
        n = len(reference)
        a, b = (values.reshape(n, -1).astype(np.float64) for values in (candidate, reference))
        is_finite = np.isfinite(a) & np.isfinite(b)
        is_alike = is_finite | (a == b) | (np.isnan(a) & np.isnan(b))
        a, b = np.where(is_finite, a, 0.0), np.where(is_finite, b, 0.0)
        difference = a - b
        by_position = [_ratio(float(d), float(r)) for d, r in zip(_norms(difference), _norms(b), strict=True)]
        worst = max(range(n), key=lambda row: math.inf if by_position[row] is None else by_position[row] or 0.0)
        relative = _ratio(float(np.linalg.norm(difference)), float(np.linalg.norm(b)))
        norms = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
        n_nonfinite = int(np.count_nonzero(~is_alike))
        at_worst = by_position[worst]
        return SlotComparison(
            slot=slot,
            layer=layer,
            name=name,
            cosine=float(np.vdot(a, b)) / norms if norms else None,
            relative_l2=relative,
            max_abs=float(np.abs(difference).max()),
            snr_db=-20 * math.log10(relative) if relative else None,
            spread_ratio=float(a.std()) / float(b.std()) if b.std() else None,
            position=self._positions[worst],
            position_l2=at_worst,
            n_nonfinite=n_nonfinite,
            threshold=limit,
            is_different=n_nonfinite > 0 or at_worst is None or at_worst > limit,
        )


def _norms(values: np.ndarray) -> np.ndarray:
    norms: np.ndarray = np.linalg.norm(values, axis=1)
    return norms


def _ratio(difference: float, reference: float) -> float | None:
    """A relative error; None where something stands against nothing."""
    if reference:
        return difference / reference
    return None if difference else 0.0


def _chosen(one: SavedTrace, selection: Selection | None) -> list[str]:
    return list(one.shapes) if selection is None else selection.choose_slots(one.shapes)


def _question_differs(candidate: _Side, reference: _Side) -> _Refusal | None:
    a, b = candidate.header, reference.header
    if a.token_ids_sha256 != b.token_ids_sha256:
        n_a, n_b = len(a.prompt_token_ids), len(b.prompt_token_ids)
        pairs = enumerate(zip(a.prompt_token_ids, b.prompt_token_ids, strict=False))
        at = next((i for i, (x, y) in pairs if x != y), min(n_a, n_b))
        return _Refusal("token_ids_sha256", f"the token ids differ from position {at} on ({n_a} ids against {n_b})")
    if a.positions != b.positions:
        return _Refusal("positions", f"one covers {_listed(a.positions)}, the other {_listed(b.positions)}")
    return None


def _shapes_differ(candidate: _Side, reference: _Side) -> _Refusal | None:
    ours, theirs = candidate.shapes, reference.shapes
    alone = [slot for slot in (*theirs, *ours) if (slot in theirs) != (slot in ours)]
    if alone:
        names = list(dict.fromkeys(parts_of(slot)[1] for slot in alone))
        listed = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
        where = reference.name if alone[0] in theirs else candidate.name
        return _Refusal(
            "slots", f"only one side has {listed} ({alone[0]} in {where}); --slots '!{names[0]}' leaves such out"
        )
    for slot, shape in theirs.items():
        if ours[slot] != shape:
            return _Refusal(f"shape of {slot}", f"{slot} is {list(ours[slot])} against {list(shape)}")
    return None


def _vocabulary_differs(subject: Subject, asked: TraceHeader) -> _Refusal | None:
    highest = max(asked.prompt_token_ids)
    if highest < subject.config.vocab_size:
        return None
    return _Refusal(
        "prompt_token_ids", f"{subject.name} has {subject.config.vocab_size} token ids, the trace uses {highest}"
    )


def _precision_unknown(candidate: _Side, reference: _Side) -> _Refusal | None:
    for side in (candidate, reference):
        for name in ("activations", "kv_cache"):
            if (said := getattr(side.header, name)) not in ROUNDING:
                return _Refusal(name, f"{side.name} computed in {said!r}, whose rounding is not known here")
    return None


def _coarsest(*headers: TraceHeader) -> str:
    """The coarsest precision that any of them computes with."""
    names = [name for one in headers for name in (one.activations, one.kv_cache)]
    return max(names, key=lambda name: ROUNDING[name][0])


def _differing(a: TraceHeader, b: TraceHeader) -> tuple[str, ...]:
    return tuple(name for name in _UNDER_TEST if getattr(a, name) != getattr(b, name))


def _refused(candidate: _Side, reference: _Side, refusal: _Refusal) -> TraceComparison:
    return TraceComparison(
        reference=reference.name,
        candidate=candidate.name,
        verdict="not_comparable",
        sentence=refusal.sentence,
        field=refusal.field,
        differs=_differing(candidate.header, reference.header),
        precision=None,
        roundoff=None,
        roundings=None,
        n_positions=len(reference.header.positions),
        n_different=0,
        first=None,
        slots=(),
        exit_code=_EXIT_CODES["not_comparable"],
    )


def _compared(candidate: _Side, reference: _Side, slots: list[SlotComparison]) -> TraceComparison:
    different = [slot for slot in slots if slot.is_different]
    precision = _coarsest(candidate.header, reference.header)
    roundoff, roundings = ROUNDING[precision]
    verdict: Verdict = "different" if different else "same"
    if different:
        sentence = (
            f"{len(different)} of {len(slots)} slots differ by more than {precision} rounding; {_first(different[0])}"
        )
    else:
        sentence = f"all {len(slots)} slots agree within {precision} rounding"
    return TraceComparison(
        reference=reference.name,
        candidate=candidate.name,
        verdict=verdict,
        sentence=sentence,
        field=None,
        differs=_differing(candidate.header, reference.header),
        precision=precision,
        roundoff=roundoff,
        roundings=roundings,
        n_positions=len(reference.header.positions),
        n_different=len(different),
        first=different[0].slot if different else None,
        slots=tuple(slots),
        exit_code=_EXIT_CODES[verdict],
    )


def _first(slot: SlotComparison) -> str:
    if slot.n_nonfinite:
        return f"the first is {slot.slot}, where {slot.n_nonfinite} values are not finite on one side"
    error = "infinite" if slot.position_l2 is None else f"{slot.position_l2:.2g}"
    return (
        f"the first is {slot.slot}: at position {slot.position} its relative error is {error}, "
        f"{slot.threshold:.2g} is allowed"
    )


def _listed(positions: tuple[int, ...]) -> str:
    if len(positions) == 1:
        return f"position {positions[0]} alone"
    is_run = positions[-1] - positions[0] + 1 == len(positions)
    shown = f"{positions[0]} to {positions[-1]}" if is_run else ", ".join(map(str, positions[:8]))
    return f"{len(positions)} positions, {shown}"
