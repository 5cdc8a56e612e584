"""The activations link: which op of the candidate's engine is the first to fail while all its inputs agree.

Three passes over the same ids: the reference's values are kept; the candidate runs untouched, and its error is what
each slot has inherited; the candidate runs with the reference's value put into every slot, and what an op then makes of
right inputs is its local error. Only that can put the blame on it. A fourth pass does the same token by token, through
the cache. An engine whose values can be seen but not changed is turned round: our own engine gets *its* values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apr.engines._base import Session
from apr.engines._subject import Subject
from apr.parity import _probes
from apr.parity._captures import (
    Capture,
    Difference,
    SlotMismatch,
    capture,
    compare_slots,
    difference,
    force,
    force_some,
    force_steps,
    layer_and_name,
)
from apr.parity._causes import Cause
from apr.parity._divergence import diverge
from apr.parity._expectation import (
    expectation,
    has_forcing,
    is_plain,
    loaded,
    missing_capability,
    own_engine,
    plain,
)
from apr.parity._explain import Scene, explain
from apr.parity._floor import (
    SPREAD,
    coarsened,
    inherited_ladder,
    precision_of,
    rounding,
    shown,
    slot_floor,
    slot_ladder,
    thresholds,
)
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._pair import Pair

LINK = "activations"
# beyond position 0, where a rotation does nothing and attention has one key
MIN_POSITIONS, MAX_POSITIONS = 16, 48
DECODED = 8


@dataclass
class _Bad:
    """A slot over its threshold: the candidate's value, and the positions that are over."""

    candidate: np.ndarray
    is_bad: np.ndarray


@dataclass
class _Local:
    """What the forced passes found.

    errors:  slot -> its local difference, one pass for all positions
    prefill: bad slots of that pass; decode: those that are bad only when positions come one at a time
    """

    errors: dict[str, Difference] = field(default_factory=dict)
    prefill: dict[str, _Bad] = field(default_factory=dict)
    decode: dict[str, _Bad] = field(default_factory=dict)


def compare(pair: Pair) -> LinkResult:
    """Name the first op of the candidate's engine that gives something else from the same inputs."""
    if pair.reference.is_endpoint or pair.candidate.is_endpoint:
        return undecided(LINK, "skipped", "an endpoint shows no activations")
    lacking = missing_capability(pair, "taps")
    if lacking is not None:
        return undecided(LINK, "skipped", lacking)
    failure = loaded(LINK, pair)
    if failure is not None:  # a fault of no op: the logits link makes a finding of it
        verdict = failure.verdict if failure.verdict == "not_comparable" else "cannot_tell"
        return undecided(LINK, verdict, failure.sentence)
    probe_id, ids = probe(pair.reference)
    expected = expectation(pair)
    pair.progress("activations: the reference's values", 0.1)
    reference = capture(pair.reference.session, ids)
    wanted = reference if expected is pair.reference else capture(expected.session, ids)
    if pair.reference.config.vocab_size != pair.candidate.config.vocab_size:
        # padding of the vocabulary, or the tokenizer link has said so: the logits link compares the words' columns
        for values in (reference, wanted):
            values.slots.pop("logits", None)
    broken = _nonfinite(wanted)
    if broken is not None:
        whose = "the reference's" if expected is pair.reference else "our own engine's"
        return undecided(LINK, "not_comparable", f"{whose} value of {broken} is not finite")
    try:
        return _judged(pair, expected, wanted, reference, probe_id)
    except SlotMismatch as exc:
        return undecided(LINK, "not_comparable", str(exc))


def probe(reference: Subject) -> tuple[str, list[int]]:
    """A prompt for this link, as the reference reads it: a conversation if it has a template for one, else raw text."""
    wanted = [p for p in _probes.PROBES if p.regime == "chat"] + _probes.of_regime("long")
    for candidate, prompt in _probes.prompts(reference, wanted):
        if len(prompt.token_ids) > MIN_POSITIONS:
            return f"{candidate.regime}/{candidate.id}", list(prompt.token_ids[: MAX_POSITIONS + 1])
    raise AssertionError("the long probe has more than enough tokens under any tokenizer")


def prove(pair: Pair, finding: Finding) -> tuple[float, float]:
    """Divergence of the logits in nats, before and after the failed slots alone are given the reference's values.

    Where the candidate's values cannot be changed, the reference is given the candidate's: what is left between the two
    then is what those slots do not account for.
    """
    slots = finding.where.get("slots", [finding.where["slot"]])
    ids = probe(pair.reference)[1]
    expected = expectation(pair)
    if finding.where.get("decode"):
        return _prove_decoding(pair.candidate.session, capture(expected.session, ids), slots)
    if has_forcing(pair.candidate):
        wanted = capture(expected.session, ids)
        right, wrong = wanted.slots["logits"], _logits(pair.candidate.session, ids)
        mended = force_some(pair.candidate.session, ids, {s: wanted.slots[s] for s in slots})
        return _mean_kl(right, wrong), _mean_kl(right, mended)
    got = capture(pair.candidate.session, ids)
    right, wrong = _logits(expected.session, ids), got.slots["logits"]
    spoilt = force_some(expected.session, ids, {s: got.slots[s] for s in slots if s in got.slots})
    return _mean_kl(right, wrong), _mean_kl(spoilt, wrong)


def _judged(pair: Pair, expected: Subject, wanted: Capture, reference: Capture, probe_id: str) -> LinkResult:
    limits, floor, grown = _thresholds(pair, expected, wanted)
    pair.progress("activations: the candidate's own values", 0.5)
    inherited = compare_slots(pair.candidate.session, reference)
    shared = [slot for slot in reference.slots if slot in inherited]
    if not shared:
        return undecided(LINK, "not_comparable", "the two engines show no slot of the same name")
    pair.progress("activations: the candidate's ops on the reference's inputs", 0.7)
    local = _local_errors(pair, expected, wanted, limits)
    measure = {
        "prompt": probe_id,
        "n_positions": len(wanted.token_ids),
        "floor": max(floor.values(), default=0.0),
        "expected_of": expected.name,
        "slots": [_row(slot, local, inherited.get(slot), limits) for slot in shared],
    }
    findings = _findings(wanted, local, expected, [*wanted.slots])
    if findings:
        return different(LINK, findings, measure)
    return _without_fault(pair, expected, inherited, grown, measure)


def _without_fault(
    pair: Pair, expected: Subject, inherited: dict[str, Difference], grown: dict[str, float], measure: dict[str, Any]
) -> LinkResult:
    """Every op does what it should: the same, or drift."""
    n_slots = len(measure["slots"])
    worst = max(inherited, key=lambda slot: inherited[slot].relative_l2)
    error = inherited[worst].relative_l2
    last = inherited.get("logits", inherited[worst])
    figures = f"cosine {last.cosine:.6f} at the logits, relative L2 {error:.2g} at {worst} at the worst"
    if all(found.relative_l2 <= SPREAD * grown.get(slot, np.inf) for slot, found in inherited.items()):
        return same(LINK, f"{n_slots} slots agree to rounding, {error:.2g} at the worst ({worst})", measure)
    if expected is not pair.reference:
        sentence = f"every op does with these weights what it should; the weights make the difference: {figures}"
        return different(LINK, [Finding("drift.quantization", sentence, {"slot": worst})], measure)
    precision = precision_of(pair.candidate)
    sentence = f"each op agrees within its precision ({precision}), and the roundings add up: {figures}"
    return different(LINK, [Finding("drift.precision", sentence, {"slot": worst})], measure)


def _thresholds(pair: Pair, expected: Subject, wanted: Capture) -> tuple[dict[str, float], ...]:
    """By slot: what the local error may be, the floor of it alone, and what rounding grows to on the way."""
    pair.progress("activations: what rounding does", 0.3)
    own = expected if is_plain(expected) else pair.candidate if is_plain(pair.candidate) else own_engine(expected)
    floor = slot_floor(own.session, wanted, seed=pair.seed)
    ladders = []
    for precision in {precision_of(pair.candidate), precision_of(expected)}:
        if not precision.is_exact:
            change = coarsened(precision)
            ladders.append(slot_ladder(own.session, wanted, change, shown=shown(precision)))
    grown = inherited_ladder(own.session, wanted, rounding(pair.seed))
    if own not in (pair.reference, pair.candidate, expected):
        own.unload()
    return thresholds(floor, *ladders), floor, grown


def _local_errors(pair: Pair, expected: Subject, wanted: Capture, limits: dict[str, float]) -> _Local:
    local = _Local()
    turned = not has_forcing(pair.candidate)
    if turned and expected is pair.candidate:
        return local

    def look(slot: str, value: np.ndarray, given: np.ndarray) -> None:
        candidate, right = (given, value) if turned else (value, given)
        found = local.errors[slot] = difference(candidate, right)
        is_bad = found.rows > limits.get(slot, np.inf)
        if is_bad.any():
            local.prefill[slot] = _Bad(candidate.copy(), is_bad)

    if turned:
        force(expected.session, capture(pair.candidate.session, wanted.token_ids), look)
        return local
    force(pair.candidate.session, wanted, look)
    if not local.prefill:
        _decode(pair.candidate.session, wanted, limits, local)
    return local


def _decode(session: Session, wanted: Capture, limits: dict[str, float], local: _Local) -> None:
    values: dict[str, list[np.ndarray]] = {}

    def look(slot: str, value: np.ndarray, given: np.ndarray) -> None:
        del given
        values.setdefault(slot, []).append(value.copy())

    n_prefill = len(wanted.token_ids) - DECODED
    force_steps(session, wanted, look, n_prefill=n_prefill)
    for slot, steps in values.items():
        right = wanted.slots[slot][n_prefill : n_prefill + len(steps)]
        found = np.concatenate(steps)
        is_bad = difference(found, right).rows > limits.get(slot, np.inf)
        if is_bad.any():
            local.decode[slot] = _Bad(found, is_bad)


def _findings(wanted: Capture, local: _Local, expected: Subject, order: Sequence[str]) -> list[Finding]:
    """One finding for every op that fails, however many layers it fails in; the first in order of computation first."""
    bad = local.prefill or local.decode
    is_decode = not local.prefill
    first = len(wanted.token_ids) - DECODED if is_decode else 0
    by_op: dict[str, list[str]] = {}
    for slot in order:
        if slot in bad:
            by_op.setdefault(_op(slot), []).append(slot)
    has_bad_attention = any(layer_and_name(slot)[1] == "attn" for slot in bad)
    return [
        _finding(slots, wanted, bad, expected, first, is_cache=is_decode and has_bad_attention, is_decode=is_decode)
        for slots in by_op.values()
    ]


def _op(slot: str) -> str:
    """Queries and keys are turned by the same op."""
    name = layer_and_name(slot)[1]
    return "rope" if name in ("q_rope", "k_rope") else name


def _finding(
    slots: list[str],
    wanted: Capture,
    bad: dict[str, _Bad],
    expected: Subject,
    first: int,
    *,
    is_cache: bool,
    is_decode: bool,
) -> Finding:
    slot = slots[0]
    layer, name = layer_and_name(slot)
    right = wanted.slots[slot][first : first + len(bad[slot].candidate)]
    inputs = _inputs(wanted, layer, slice(first, first + len(right)))
    past = _inputs(wanted, layer, slice(None)) if is_decode else {}
    scene = Scene(layer, name, inputs, right, bad[slot].candidate, bad[slot].is_bad, expected.checkpoint, first, past)
    found = explain(scene)
    cause: Cause = "engine.kv_cache" if is_cache else found.cause
    where: dict[str, Any] = {"slot": slot} | ({} if layer is None else {"layer": layer}) | found.where
    layers = sorted({number for number, _ in map(layer_and_name, slots) if number is not None})
    if len(slots) > 1:
        where |= {"slots": slots, "layers": layers}
    also = f", and so it is in {len(layers)} layers" if len(layers) > 1 else ""
    when = " when tokens come one at a time, through the cache" if is_decode else ""
    if is_decode:
        where |= {"decode": True}
    error = difference(bad[slot].candidate, right).relative_l2
    sentence = f"{slot} {found.sentence}{when}, while its inputs agree (relative L2 {error:.2g}){also}"
    return Finding(cause, sentence, where)


def _inputs(wanted: Capture, layer: int | None, rows: slice) -> dict[str, np.ndarray]:
    """The reference's slots of a layer by short name; `x` is what the layer takes in."""
    prefix = f"layers.{layer}."
    found = {slot.removeprefix(prefix): value[rows] for slot, value in wanted.slots.items() if slot.startswith(prefix)}
    before = "embed" if layer == 0 else f"layers.{(layer or 0) - 1}.out"
    if before in wanted.slots:
        found["x"] = wanted.slots[before][rows]
    return found


def _row(slot: str, local: _Local, inherited: Difference | None, limits: dict[str, float]) -> dict[str, Any]:
    layer, name = layer_and_name(slot)
    error = local.errors.get(slot)
    return {
        "slot": slot,
        "layer": layer,
        "name": name,
        "local": None if error is None else plain(error.relative_l2),
        "inherited": None if inherited is None else plain(inherited.relative_l2),
        "cosine": None if inherited is None else plain(inherited.cosine),
        "max_abs": None if inherited is None else plain(inherited.max_abs),
        "snr_db": None if inherited is None else plain(inherited.snr_db),
        "spread_ratio": None if inherited is None else plain(inherited.spread_ratio),
        "threshold": plain(limits.get(slot)),
        "is_bad": slot in local.prefill or slot in local.decode,
    }


def _nonfinite(values: Capture) -> str | None:
    return next((slot for slot, value in values.slots.items() if not np.isfinite(value).all()), None)


def _logits(session: Session, ids: Sequence[int]) -> np.ndarray:
    return capture(session, ids).slots["logits"]


def _prove_decoding(session: Session, wanted: Capture, slots: Sequence[str]) -> tuple[float, float]:
    """As `prove`, where only decoding fails: the logits of the single positions, through the cache."""
    n_prefill = len(wanted.token_ids) - DECODED
    right = wanted.slots["logits"][n_prefill:]
    before, after = (_decoded(session, wanted, chosen, n_prefill) for chosen in ((), slots))
    return _mean_kl(right[: len(before)], before), _mean_kl(right[: len(after)], after)


def _decoded(session: Session, wanted: Capture, slots: Sequence[str], n_prefill: int) -> np.ndarray:
    """float32 [steps, vocab_size]: the logits of the single positions, these slots put right."""
    logits: list[np.ndarray] = []

    def look(name: str, value: np.ndarray, given: np.ndarray) -> None:
        del given
        if name == "logits":
            logits.append(value.copy())

    chosen = {slot: wanted.slots[slot] for slot in (*slots, "logits")}
    force_steps(session, Capture(wanted.token_ids, chosen), look, n_prefill=n_prefill)
    return np.concatenate(logits)


def _mean_kl(reference: np.ndarray, candidate: np.ndarray) -> float:
    """nats, over the positions that are finite; infinite if none is. Columns that one of them lacks are padding."""
    width = min(reference.shape[1], candidate.shape[1])
    kl = diverge(reference[:, :width], candidate[:, :width]).kl
    return float(kl[np.isfinite(kl)].mean()) if np.isfinite(kl).any() else float("inf")
