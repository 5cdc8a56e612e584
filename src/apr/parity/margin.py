"""Whether the flips of the arg-max are what the drift must cause, or more. Pure functions over measured positions.

At a flipped position "the drift exceeded the margin" is true by definition and explains nothing. So the drift of *other*
prompts is laid over each position's own logits, and the flips that it would cause are counted in advance; what is then
observed either agrees (the drift is benign), or there is more, in some margin band or prompt regime.

Drift is laid over rank by rank: what the reference's second token gained on the first there, the second gains here. It
is never taken from the same prompt but for its size, which the prompt's other positions tell; no prompt's may be larger
than those of other prompts make likely.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from apr.parity._binomial import count_interval, distribution, tail
from apr.parity._divergence import Divergence

# logits; the first band holds near ties, the last what no quantisation in use should turn
BANDS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, math.inf)
ALL = "all"
# chances, after counting how many groups were looked at: an excess so unlikely is one; a count so likely is not
EXCESS_BELOW = 1e-3
BENIGN_ABOVE = 1e-2
# fewer positions or prompts than these say nothing of a tail
MIN_POSITIONS = 32
MIN_PROMPTS = 2
# tokens: a text that repeats so many of them goes round in a circle
LOOP = 4
_MAX_DONORS = 512
# the drift's tail beyond what was seen: a generalised Pareto of this shape, heavier than a normal's or an exponential's
_TAIL_SHAPE = 0.25
_FITTED = (0.80, 0.96)
# how far the size of a prompt's drift, taken from its other positions, may be off: lognormal, five Gauss-Hermite points
_SIZE_ERROR = 0.15
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()

Verdict = Literal["benign", "excess", "cannot_tell"]


@dataclass(frozen=True, slots=True)
class Positions:
    """What is known of n positions of several prompts.

    margin:   float64 [n], z₁ - z₂ of the reference
    gaps:     float64 [n, k], z₁ - z_j of its second, third … tokens
    pulls:    float64 [n, k], what each of those gained on the first in the candidate
    is_flip:  bool [n], the candidate's arg-max is another
    prompt:   int64 [n]
    regime:   [n] of str, the same within a prompt
    key:      int64 [n], equal where two positions are one, seen twice (`keys_of`)
    """

    margin: np.ndarray
    gaps: np.ndarray
    pulls: np.ndarray
    is_flip: np.ndarray
    prompt: np.ndarray
    regime: np.ndarray
    key: np.ndarray

    def __len__(self) -> int:
        return len(self.margin)


@dataclass(frozen=True, slots=True)
class Group:
    """Flips among some positions, against those predicted.

    regime:    of the positions; ALL for every one
    low, high: margins of the band, logits
    expected:  flips, the mean
    interval:  where 99 of 100 counts lie
    chance:    of so many flips or more, were drift all there is
    """

    regime: str
    low: float
    high: float
    n: int
    n_flips: int
    expected: float
    interval: tuple[int, int]
    chance: float

    def as_band(self) -> dict[str, Any]:
        """As the report draws it."""
        high = None if math.isinf(self.high) else self.high
        return {"from": self.low, "to": high, "n": self.n, "flips": self.n_flips, "predicted": self.expected}


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether drift explains the flips.

    worst:   the group whose count is least likely; None where nothing could be predicted
    place:   the flip that drift explains least, an index into the positions; None if there is none
    n_more:  for cannot_tell, how many more positions like these would decide
    """

    verdict: Verdict
    sentence: str
    groups: tuple[Group, ...]
    worst: Group | None
    place: int | None
    n_more: int | None = None

    def of_regime(self, regime: str) -> Group | None:
        """All margins of one regime together."""
        whole = (g for g in self.groups if g.regime == regime and g.low == 0.0 and math.isinf(g.high))
        return next(whole, None)

    def bands(self) -> list[dict[str, Any]]:
        """All regimes together, by margin."""
        return [g.as_band() for g in self.groups if g.regime == ALL and not (g.low == 0.0 and math.isinf(g.high))]


def judge(positions: Positions, *, seed: int = 0) -> Judgement:
    """Predict the flips of every band and regime from other prompts' drift, and compare with those observed."""
    n, n_prompts = len(np.unique(positions.key)), len(np.unique(positions.prompt))
    if n < MIN_POSITIONS or n_prompts < MIN_PROMPTS:
        return _too_few(n, n_prompts)
    chances = flip_chances(positions, seed=seed)
    groups = tuple(_groups(positions, chances))
    worst = min(groups, key=lambda group: group.chance)
    adjusted = min(1.0, worst.chance * len(groups))
    place = _least_expected(positions, chances, None)
    if adjusted < EXCESS_BELOW:
        named = _named(groups, worst)
        place = _least_expected(positions, chances, named)
        return Judgement("excess", f"more flips than drift explains: {_said(named)}", groups, named, place)
    if adjusted > BENIGN_ABOVE:
        total = next(g for g in groups if g.regime == ALL and g.low == 0.0 and math.isinf(g.high))
        low, high = total.interval
        sentence = f"{total.n_flips} flips of {n} positions, where the measured drift explains {low} to {high}"
        return Judgement("benign", sentence, groups, worst, place)
    more = _more(worst, len(groups))
    sentence = f"{_said(worst)}: too many for chance, too few to be sure; {more} more positions like these would decide"
    return Judgement("cannot_tell", sentence, groups, worst, place, more)


def flip_chances(positions: Positions, *, seed: int = 0) -> np.ndarray:
    """float64 [n, nodes]: the chance that drift as it is in other prompts flips each position.

    A node is how far this prompt's size of drift may be from what its other positions show; `_WEIGHTS` says how likely
    each is.
    """
    random = np.random.default_rng(seed)
    size = np.sqrt((positions.pulls**2).mean(axis=1))
    measured = np.isfinite(size)
    scales = {p: _median(size[(positions.prompt == p) & measured]) for p in np.unique(positions.prompt).tolist()}
    found = np.zeros((len(positions), len(_NODES)))
    for prompt in scales:
        own = np.flatnonzero(positions.prompt == prompt)
        donors = np.flatnonzero((positions.prompt != prompt) & measured & ~np.isin(positions.key, positions.key[own]))
        if len(donors) > _MAX_DONORS:
            donors = random.choice(donors, _MAX_DONORS, replace=False)
        if not len(donors):
            continue
        of_others = np.array([scales[p] for p in positions.prompt[donors].tolist()])
        pulls = positions.pulls[donors] / of_others[:, None]
        typical = _median(np.array([scale for p, scale in scales.items() if p != prompt]))
        most = typical * math.exp(2.0 * _spread(positions, scales, without=prompt))
        for i in own.tolist():
            others = size[own[(own != i) & measured[own]]]
            scale = min(_median(others) if len(others) else typical, most)
            # a donor's drift flips this position if it lifts any contender over the first
            reach = (pulls / np.maximum(positions.gaps[i], 1e-9)).max(axis=1)
            found[i] = _exceedance(np.sort(reach), 1.0 / (scale * np.exp(_SIZE_ERROR * _NODES)))
    return found


def curves(positions: Positions, error: np.ndarray, step: np.ndarray) -> dict[str, Any]:
    """Three curves: the margin by regime, the error by step, the flips by band.

    error:  float64 [n], of each position's logits
    step:   int64 [n], its place in its own sequence
    """
    regimes = [str(regime) for regime in dict.fromkeys(positions.regime.tolist())]
    quantiles = (5, 25, 50, 75, 95)
    edges = [0, *(2**i for i in range(12))]
    steps = []
    for low, high in pairwise(edges):
        chosen = (step >= low) & (step < high) & np.isfinite(error)
        if chosen.any():
            mean = float(error[chosen].mean())
            steps.append({"from": low, "to": high, "n": int(chosen.sum()), "error": mean})
    return {
        "margin_by_regime": {
            regime: {f"p{q}": float(np.percentile(positions.margin[positions.regime == regime], q)) for q in quantiles}
            for regime in regimes
        },
        "error_by_step": steps,
        "flips_by_band": [
            {
                "from": low,
                "to": None if math.isinf(high) else high,
                "n": int(c.sum()),
                "flips": int(positions.is_flip[c].sum()),
            }
            for low, high, c in ((low, high, _in_band(positions, low, high)) for low, high in _band_edges())
        ],
    }


def _spread(positions: Positions, scales: Mapping[int, float], *, without: int) -> float:
    """Standard deviation of the logarithm of the drift's size between prompts of the same regime, one prompt left out.

    Between regimes the size may differ for a reason: that is what is looked for, so it does not count as chance.
    """
    by_regime: dict[str, list[float]] = {}
    for prompt, scale in scales.items():
        if prompt != without:
            regime = str(positions.regime[positions.prompt == prompt][0])
            by_regime.setdefault(regime, []).append(math.log(scale))
    logs = [sizes for sizes in by_regime.values() if len(sizes) > 1]
    squares = sum((size - sum(sizes) / len(sizes)) ** 2 for sizes in logs for size in sizes)
    freedom = sum(len(sizes) - 1 for sizes in logs)
    # where prompts are too few to tell: half as large again, as if three more had been seen to differ so
    guess, weight = math.log(1.5), 3
    return math.sqrt((squares + weight * guess**2) / (freedom + weight))


def _exceedance(reach: np.ndarray, at: np.ndarray) -> np.ndarray:
    """float64: the share of drifts that reach each of `at`: counted in the bulk, from the tail's shape beyond it.

    reach:  float64 [n], ascending. The shape is fitted inside the bulk, so that a few giants do not explain themselves.
    """
    low, high = (float(reach[min(len(reach) - 1, int(share * len(reach)))]) for share in _FITTED)
    (low_tail, high_tail), k = (1.0 - share for share in _FITTED), _TAIL_SHAPE
    width = max(high - low, 1e-9 * abs(high), 1e-300) * k / ((high_tail / low_tail) ** -k - 1.0)
    at = np.minimum(at, low + 1e9 * width)
    fitted = low_tail * (1.0 + k * np.maximum(at - low, 0.0) / width) ** (-1.0 / k)
    counted = (len(reach) - np.searchsorted(reach, at, side="left")) / len(reach)
    return np.where(at <= high, counted, np.minimum(fitted, high_tail))


def _median(values: np.ndarray) -> float:
    return max(float(np.median(values)), 1e-300) if len(values) else 1e-300


def _groups(positions: Positions, chances: np.ndarray) -> Iterator[Group]:
    regimes = [ALL, *dict.fromkeys(positions.regime.tolist())]
    for regime in regimes if len(regimes) > 2 else [ALL]:
        of_regime = np.ones(len(positions), dtype=bool) if regime == ALL else positions.regime == regime
        for low, high in [(0.0, math.inf), *_band_edges()]:
            chosen = np.flatnonzero(of_regime & _in_band(positions, low, high))
            chosen = chosen[np.unique(positions.key[chosen], return_index=True)[1]]
            if len(chosen):
                yield _group(positions, chances, chosen, str(regime), low, high)


def _group(
    positions: Positions, chances: np.ndarray, chosen: np.ndarray, regime: str, low: float, high: float
) -> Group:
    by_prompt = [chances[chosen[positions.prompt[chosen] == p]] for p in np.unique(positions.prompt[chosen])]
    counts = distribution(by_prompt, _WEIGHTS)
    n_flips = int(positions.is_flip[chosen].sum())
    return Group(
        regime=regime,
        low=low,
        high=high,
        n=len(chosen),
        n_flips=n_flips,
        expected=float(counts @ np.arange(len(counts))),
        interval=count_interval(counts, 0.99),
        chance=tail(counts, n_flips),
    )


def _band_edges() -> list[tuple[float, float]]:
    return list(pairwise(BANDS))


def _in_band(positions: Positions, low: float, high: float) -> np.ndarray:
    chosen: np.ndarray = (positions.margin >= low) & (positions.margin < high)
    return chosen


def _named(groups: Sequence[Group], worst: Group) -> Group:
    """The group to name: where only one regime has an excess, that regime's."""
    excess = [g for g in groups if g.regime != ALL and g.chance * len(groups) < EXCESS_BELOW]
    return min(excess, key=lambda g: g.chance) if len({g.regime for g in excess}) == 1 else worst


def _least_expected(positions: Positions, chances: np.ndarray, group: Group | None) -> int | None:
    """The flip that drift explains least, of a group if there is one."""
    chosen = positions.is_flip.copy()
    if group is not None:
        chosen &= _in_band(positions, group.low, group.high)
        chosen &= (positions.regime == group.regime) | (group.regime == ALL)
    flips = np.flatnonzero(chosen)
    return int(flips[(chances[flips] @ _WEIGHTS).argmin()]) if len(flips) else None


def _said(group: Group) -> str:
    return f"{group.n_flips} flips of {group.n} positions {_where(group)}, where drift explains {group.expected:.2g}"


def _where(group: Group) -> str:
    band = (
        "" if group.low == 0 and math.isinf(group.high) else f" with margins of {group.low:g} to {group.high:g} logits"
    )
    return f"{'of all regimes' if group.regime == ALL else f'under the {group.regime} regime'}{band}"


def _too_few(n: int, n_prompts: int) -> Judgement:
    n_more = max(MIN_POSITIONS - n, MIN_POSITIONS // 2 if n_prompts < MIN_PROMPTS else 0)
    sentence = (
        f"{n} positions of {n_prompts} prompts are too few to predict flips from other prompts; "
        f"at least {MIN_POSITIONS} positions of {MIN_PROMPTS} prompts would decide"
    )
    return Judgement("cannot_tell", sentence, (), None, None, n_more)


def _more(group: Group, n_groups: int) -> int:
    """Positions that would make the same shares decisive: the deviation grows with the root of their number."""
    now, wanted = (math.sqrt(-2.0 * math.log(chance)) for chance in (group.chance, EXCESS_BELOW / n_groups))
    return max(1, math.ceil(group.n * ((wanted / now) ** 2 - 1.0)))


def positions_of(parts: Sequence[tuple[str, Divergence]], ids: Sequence[Sequence[int]] | None = None) -> Positions:
    """Gather prompts: (regime, the figures of its positions) each, and the token ids up to each position."""
    n = [len(d.margin) for _, d in parts]
    return Positions(
        key=keys_of(ids) if ids is not None else np.arange(sum(n)),
        margin=np.concatenate([d.margin for _, d in parts]),
        gaps=_stacked([d.gaps for _, d in parts]),
        pulls=_stacked([d.pulls for _, d in parts]),
        is_flip=np.concatenate([d.is_flip for _, d in parts]),
        prompt=np.repeat(np.arange(len(parts)), n),
        regime=np.repeat([regime for regime, _ in parts], n),
    )


def keys_of(ids: Sequence[Sequence[int]]) -> np.ndarray:
    """int64 [n]: a number for what stands before each position, the same for the same beginning of two sequences.

    Within a sequence, positions behind the same LOOP tokens have the same number too: a text that turns in a circle
    takes the same choice again and again, and that is one choice.
    """
    known: dict[tuple[int, int], int] = {}
    found = []
    for sequence in ids:
        key = -1
        seen: dict[tuple[int, ...], int] = {}
        for at, token_id in enumerate(sequence):
            key = known.setdefault((key, token_id), len(known))
            last = tuple(sequence[max(0, at + 1 - LOOP) : at + 1])
            found.append(seen.setdefault(last, key) if len(last) == LOOP else key)
    return np.array(found, dtype=np.int64)


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    width = min(a.shape[1] for a in arrays)
    return np.concatenate([a[:, :width] for a in arrays])
