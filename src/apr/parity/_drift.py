"""Whether what two subjects' logits differ by is drift, and of what; else whose fault it is.

Three questions in turn. Does the candidate agree with itself, in one pass and token by token? Does its engine stay
within its own precision, whatever the weights? Do the flips of the arg-max come as the drift elsewhere predicts?
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apr.engines._subject import Subject
from apr.errors import AprError
from apr.parity import margin
from apr.parity._causes import Cause
from apr.parity._divergence import Divergence, diverge, joined
from apr.parity._expectation import expectation, is_plain, own_engine
from apr.parity._floor import coarsened, logit_floor, logit_ladder, precision_of
from apr.parity._link import Finding
from apr.parity._pair import Pair
from apr.parity._teacher_forced import Forced, aligned, rows_of

# divergence grows with the square of an error: the mean of hundreds of positions varies little, the worst one much
MEAN_SPREAD, WORST_SPREAD = 4.0, 16.0
# of each regime's first probe: enough to measure rounding by
_SAMPLE_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """How far rounding alone takes the logits, nats: mean and worst position of the floor, and of the coarsest ladder."""

    floor_mean: float
    floor_worst: float
    ladder_mean: float
    ladder_worst: float

    @property
    def mean(self) -> float:
        """What the mean divergence of a faultless engine may be."""
        return MEAN_SPREAD * max(self.floor_mean, self.ladder_mean)

    @property
    def worst(self) -> float:
        """What one position's may be."""
        return WORST_SPREAD * max(self.floor_worst, self.ladder_worst)


@dataclass(frozen=True, slots=True)
class Drift:
    """What the logits say.

    findings:  empty if nothing differs by more than rounding
    flips:     the margin analysis of all positions
    """

    limits: Limits
    flips: margin.Judgement
    findings: tuple[Finding, ...] = ()
    has_flips: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the flips are too few, or too many for chance, to call it drift; without any there is no question."""
        is_drift = bool(self.findings) and all(f.is_benign for f in self.findings)
        return is_drift and self.has_flips and self.flips.verdict == "cannot_tell"


_known: weakref.WeakKeyDictionary[Subject, weakref.WeakKeyDictionary[Subject, Drift]] = weakref.WeakKeyDictionary()


def drift(pair: Pair, runs: Sequence[Forced]) -> Drift:
    """Judge a pair's teacher-forced runs; kept as long as both subjects are."""
    known = _known.setdefault(pair.reference, weakref.WeakKeyDictionary())
    if pair.candidate not in known:
        known[pair.candidate] = _judged(pair, runs)
    return known[pair.candidate]


def positions_of(runs: Sequence[Forced]) -> margin.Positions:
    """The positions of all runs, a run being a prompt."""
    return margin.positions_of([(run.probe.regime, run.divergence) for run in runs], [run.ids for run in runs])


def place_of(runs: Sequence[Forced], index: int) -> tuple[Forced, int]:
    """The run and the row that the index into all positions means."""
    for run in runs:
        n = len(run.divergence.kl)
        if index < n:
            return run, index
        index -= n
    raise IndexError(index)


def _judged(pair: Pair, runs: Sequence[Forced]) -> Drift:
    expected = expectation(pair)
    limits = _limits(pair, expected, runs)
    flips = margin.judge(positions_of(runs), seed=pair.seed)
    whole = joined([run.divergence for run in runs])
    fault = _nonfinite(runs) or _of_itself(runs, limits)
    if fault is not None:
        return Drift(limits, flips, (fault,))
    if not whole.is_flip.any() and _is_within(
        whole.kl, MEAN_SPREAD * limits.floor_mean, WORST_SPREAD * limits.floor_worst
    ):
        return Drift(limits, flips)
    fault = _of_engine(pair, expected, runs, limits)
    if fault is not None:
        return Drift(limits, flips, (fault,))
    if expected is not pair.reference:
        upstream = _upstream(pair)
        if upstream is not None and not upstream.is_benign:
            return Drift(limits, flips, (upstream,))
        cause: Cause = upstream.cause if upstream is not None else "drift.quantization"
    else:
        cause = "drift.precision"
    if flips.verdict == "excess":
        return Drift(limits, flips, (_excess(pair, expected, runs, flips),))
    mean = float(whole.kl.mean())
    why = "the weights' rounding" if cause == "drift.quantization" else f"precision ({precision_of(pair.candidate)})"
    has_flips = bool(whole.is_flip.any())
    said = flips.sentence if has_flips else f"the arg-max of all {len(whole.kl)} positions is the same"
    sentence = f"the logits drift by {mean:.2g} nats on average, as {why} makes them: {said}"
    return Drift(limits, flips, (Finding(cause, sentence),), has_flips)


def _limits(pair: Pair, expected: Subject, runs: Sequence[Forced]) -> Limits:
    pair.progress("logits: what rounding does", 0.9)
    own = expected if is_plain(expected) else own_engine(pair.candidate)
    texts = _sample(runs)
    floor = joined(logit_floor(own.session, texts, seed=pair.seed)).kl
    ladders = [floor]
    for precision in {precision_of(pair.candidate), precision_of(pair.reference)}:
        if not precision.is_exact:
            ladders.append(joined(logit_ladder(own.session, texts, coarsened(precision))).kl)
    if own not in (pair.reference, pair.candidate, expected):
        own.unload()
    return Limits(
        floor_mean=float(floor.mean()),
        floor_worst=float(floor.max()),
        ladder_mean=max(float(kl.mean()) for kl in ladders),
        ladder_worst=max(float(kl.max()) for kl in ladders),
    )


def _sample(runs: Sequence[Forced]) -> list[tuple[int, ...]]:
    """A text of every regime: its end, which the model wrote itself, and what of the prompt fits."""
    first = {run.probe.regime: run for run in reversed(runs)}
    return [run.ids[:_SAMPLE_TOKENS] for run in first.values()]


def _is_within(kl: np.ndarray, mean: float, worst: float) -> bool:
    return bool(kl.mean() <= mean and kl.max() <= worst)


def _nonfinite(runs: Sequence[Forced]) -> Finding | None:
    bad = [run for run in runs if not run.divergence.is_finite.all()]
    if not bad:
        return None
    n_bad = sum(int((~run.divergence.is_finite).sum()) for run in bad)
    n_all = sum(len(run.divergence.kl) for run in runs)
    run = bad[0]
    position = int(np.flatnonzero(~run.divergence.is_finite)[0])
    where = {"position": position, "regime": run.probe.regime, "probe": run.probe.id}
    return Finding(
        "engine.op", f"logits that are not finite at {n_bad} of {n_all} positions, first at {position}", where
    )


def _of_itself(runs: Sequence[Forced], limits: Limits) -> Finding | None:
    """The candidate against itself: one pass against token by token."""
    for run in runs:
        kl = np.where(run.steps.is_finite, run.steps.kl, np.inf)
        bad = np.flatnonzero(kl > limits.worst)
        if len(bad):
            position = run.first_output + int(bad[0])
            sentence = (
                f"token by token the candidate computes something else than in one pass: at position {position} of "
                f"{run.probe.regime}/{run.probe.id} by {kl[bad[0]]:.2g} nats, where rounding makes {limits.worst:.2g}"
            )
            cause: Cause = "engine.kv_cache"
            return Finding(cause, sentence, {"position": position, "regime": run.probe.regime, "probe": run.probe.id})
    return None


def _of_engine(pair: Pair, expected: Subject, runs: Sequence[Forced], limits: Limits) -> Finding | None:
    """The candidate's engine against what it ought to compute with its own weights."""
    if expected is pair.candidate:
        return None
    if expected is pair.reference:
        found = [(run, run.divergence) for run in runs]
    else:
        pair.progress("logits: our own engine on the candidate's file", 0.95)
        found = [(run, _against(expected, pair.candidate, run)) for run in _shortest(runs)]
        expected.unload()
    by_regime: dict[str, list[Divergence]] = {}
    for run, divergence in found:
        by_regime.setdefault(run.probe.regime, []).append(divergence)
    over = [r for r, parts in by_regime.items() if not _is_within(joined(parts).kl, limits.mean, limits.worst)]
    if not over:
        return None
    run, divergence = max((f for f in found if f[0].probe.regime in over), key=lambda f: float(f[1].kl.max()))
    position = int(divergence.kl.argmax())
    mean = float(joined(by_regime[run.probe.regime]).kl.mean())
    whose = "the reference" if expected is pair.reference else "our own engine on the same file"
    only = f" under the {over[0]} regime alone" if len(over) == 1 < len(by_regime) else ""
    sentence = (
        f"the candidate's engine is {mean:.2g} nats from {whose}{only}, {divergence.kl[position]:.2g} at position "
        f"{position} of {run.probe.regime}/{run.probe.id}; its precision ({precision_of(pair.candidate)}) makes {limits.mean:.2g}"
    )
    return Finding("engine.op", sentence, {"position": position, "regime": run.probe.regime, "probe": run.probe.id})


def _shortest(runs: Sequence[Forced]) -> list[Forced]:
    """One run of every regime, the shortest."""
    best: dict[str, Forced] = {}
    for run in sorted(runs, key=lambda run: len(run.ids)):
        best.setdefault(run.probe.regime, run)
    return list(best.values())


def _against(expected: Subject, candidate: Subject, run: Forced) -> Divergence:
    right, got = aligned(rows_of(expected.session, run.ids), rows_of(candidate.session, run.ids), expected)
    return diverge(right, got)


def _upstream(pair: Pair) -> Finding | None:
    """What the configuration or the weights say of themselves: a defect there is no drift, however smooth."""
    from apr.parity import metadata, weights

    benign = None
    for link in (metadata, weights):
        try:
            result = link.compare(pair)
        except AprError:
            continue
        for found in result.findings:
            if not found.is_benign:
                return Finding(
                    found.cause, f"the logits follow from the {result.link} link: {found.sentence}", found.where
                )
            benign = benign or Finding(found.cause, found.sentence, found.where)
    return benign


def _excess(pair: Pair, expected: Subject, runs: Sequence[Forced], flips: margin.Judgement) -> Finding:
    assert flips.worst is not None
    where: dict[str, object] = {} if flips.worst.regime == margin.ALL else {"regime": flips.worst.regime}
    if flips.place is not None:
        run, row = place_of(runs, flips.place)
        where |= {
            "position": row,
            "token_id": int(run.divergence.reference_top[row]),
            "regime": run.probe.regime,
            "probe": run.probe.id,
        }
    cause: Cause = "weights.quantization" if _is_in_file(pair, expected, runs, flips.place) else "engine.op"
    return Finding(cause, flips.sentence, where)


def _is_in_file(pair: Pair, expected: Subject, runs: Sequence[Forced], place: int | None) -> bool:
    """Whether our own engine on the candidate's file flips there too: then it is in the weights."""
    if expected is pair.reference or place is None:
        return False
    if expected is pair.candidate:
        return True
    run, row = place_of(runs, place)
    top = int(rows_of(expected.session, run.ids)[row].argmax())
    expected.unload()
    return top == int(run.divergence.candidate_top[row])
