"""How far one row of logits is from another: divergence, drift and margin of every position, in float64.

Every position counts. One whose logits are not finite is marked and never left out: leaving it out would improve the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

# ranks behind the reference's first that a drift may lift over it: the tokens further down are whole logits away
CONTENDERS = 32
# logits worked on together: a float64 copy is 8 MB, and a dozen are made
_VALUES_AT_ONCE = 2**20
_PERCENTILES = {"kl_p90": 90.0, "kl_p95": 95.0, "kl_p99": 99.0, "kl_p999": 99.9}
_BOOTSTRAP_DRAWS = 1000
# positions that stay together in a redraw where there is only one prompt: neighbours in a text are alike
_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Divergence:
    """Reference against candidate at n positions; all arrays have n rows.

    kl:            float64, nats, of the candidate from the reference; nan where a row is not finite
    reference_top, candidate_top: int64, the arg-max ids; -1 where a row is not finite
    margin:        float64, z₁ - z₂ of the reference
    drift:         float64, max over j of e_j - e_top1, where e is candidate less reference: below the margin nothing flips
    error:         float64, root mean square of e less its mean
    gaps, pulls:   float64 [n, contenders]: of the reference's second, third … tokens, z₁ - z_j and e_j - e_top1
    delta_p:       float64, the candidate's probability of the text's next token less the reference's; nan without one
    is_finite:     bool, of the candidate's row
    """

    kl: np.ndarray
    reference_top: np.ndarray
    candidate_top: np.ndarray
    margin: np.ndarray
    drift: np.ndarray
    error: np.ndarray
    gaps: np.ndarray
    pulls: np.ndarray
    delta_p: np.ndarray
    is_finite: np.ndarray

    @property
    def is_flip(self) -> np.ndarray:
        """bool [n]: whether the arg-max differs; where the candidate has none it does."""
        flips: np.ndarray = self.reference_top != self.candidate_top
        return flips

    def rows(self, chosen: np.ndarray | slice) -> Divergence:
        """Some of the positions."""
        return Divergence(*(getattr(self, field.name)[chosen] for field in fields(self)))


def diverge(reference: np.ndarray, candidate: np.ndarray, next_ids: Sequence[int] = ()) -> Divergence:
    """Compare logits, float32 [n, vocab_size] each, of the same positions.

    next_ids:  of the text, for the first so many positions; the last position of a text has none
    Raises     ValueError for shapes that differ: two such runs did not ask the same question
    """
    if reference.shape != candidate.shape or reference.ndim != 2:
        raise ValueError(f"logits of shape {reference.shape} against {candidate.shape}")
    ids = np.full(len(reference), -1, dtype=np.int64)
    ids[: len(next_ids)] = next_ids
    n_rows = max(1, _VALUES_AT_ONCE // reference.shape[1])
    pieces = [slice(at, at + n_rows) for at in range(0, len(reference), n_rows)]
    return joined([_chunk(reference[piece], candidate[piece], ids[piece]) for piece in pieces])


def joined(parts: Sequence[Divergence]) -> Divergence:
    """Several runs of positions, one after the other."""
    return Divergence(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Divergence)))


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """float64 [n, vocab_size]: natural logarithms of the softmax of each row."""
    shifted: np.ndarray = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def summary(kl: np.ndarray, prompts: np.ndarray, *, seed: int) -> dict[str, Any]:
    """The figures of some positions by the names of the report.

    kl:       float64 [n], nan for a position that is not finite: it counts in `n_nonfinite`, and the mean has none
    prompts:  int64 [n], which prompt each position is of
    """
    found = kl[np.isfinite(kl)]
    figures: dict[str, Any] = {
        "n_positions": len(kl),
        "n_prompts": len(np.unique(prompts)),
        "n_nonfinite": int(len(kl) - len(found)),
    }
    if not len(found):
        return figures | dict.fromkeys(("kl_mean", "kl_median", *_PERCENTILES, "kl_max", "worst_1pct_share"), None)
    worst = np.sort(found)[-max(1, round(len(found) / 100)) :]
    total = float(found.sum())
    return figures | {
        "kl_mean": float(found.mean()),
        "kl_median": float(np.median(found)),
        **{name: float(np.percentile(found, at)) for name, at in _PERCENTILES.items()},
        "kl_max": float(found.max()),
        "kl_interval": list(mean_interval(kl, prompts, seed=seed)),
        "worst_1pct_share": float(worst.sum()) / total if total > 0 else 0.0,
    }


def mean_interval(values: np.ndarray, prompts: np.ndarray, *, seed: int) -> tuple[float, float]:
    """95 % interval of a mean by redrawing whole prompts; of one prompt, by redrawing blocks of neighbours.

    Positions of one prompt are not independent: redrawing them one by one would make the interval too narrow.
    """
    finite = np.isfinite(values)
    values, clusters = values[finite], prompts[finite]
    if not len(values):
        return float("nan"), float("nan")
    if len(np.unique(clusters)) < 2:
        clusters = np.arange(len(values)) // _BLOCK
    _, place = np.unique(clusters, return_inverse=True)
    sums, counts = np.bincount(place, values), np.bincount(place)
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(sums), (_BOOTSTRAP_DRAWS, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def rms_delta_p(delta_p: np.ndarray) -> float | None:
    """RMS Δp in percent, as llama.cpp's perplexity prints it; None where no position has a next token."""
    found = delta_p[np.isfinite(delta_p)]
    return 100.0 * float(np.sqrt(np.mean(found**2))) if len(found) else None


def _chunk(reference: np.ndarray, candidate: np.ndarray, next_ids: np.ndarray) -> Divergence:
    is_finite = np.isfinite(candidate).all(axis=1)
    candidate = np.where(is_finite[:, None], candidate, np.float32(0))
    rows = np.arange(len(reference))
    z, y = reference.astype(np.float64), candidate.astype(np.float64)
    log_p, log_q = log_probabilities(z), log_probabilities(y)
    top = z.argmax(axis=1)
    e = y - z
    # e_j - e_top1: what a common shift of all logits does not change
    pull = e - e[rows, top][:, None]
    ranked = _ranked(z, min(CONTENDERS + 1, z.shape[1]))[:, 1:]
    others = pull.copy()
    others[rows, top] = -np.inf
    has_next = (next_ids >= 0) & (next_ids < z.shape[1])
    at = np.where(has_next, next_ids, 0)
    kl = np.maximum((np.exp(log_p) * (log_p - log_q)).sum(axis=1), 0.0)
    delta_p = np.exp(log_q[rows, at]) - np.exp(log_p[rows, at])
    return Divergence(
        kl=np.where(is_finite, kl, np.nan),
        reference_top=top,
        candidate_top=np.where(is_finite, y.argmax(axis=1), -1),
        margin=z[rows, top] - z[rows, ranked[:, 0]],
        drift=np.where(is_finite, others.max(axis=1), np.nan),
        error=np.where(is_finite, e.std(axis=1), np.nan),
        gaps=z[rows, top][:, None] - np.take_along_axis(z, ranked, axis=1),
        pulls=np.where(is_finite[:, None], np.take_along_axis(pull, ranked, axis=1), np.nan),
        delta_p=np.where(has_next & is_finite, delta_p, np.nan),
        is_finite=is_finite,
    )


def _ranked(z: np.ndarray, n: int) -> np.ndarray:
    """int64 [rows, n]: the ids of the n highest values, the highest first, lower ids first among equals."""
    best = (
        np.sort(np.argpartition(z, -n, axis=1)[:, -n:], axis=1)
        if n < z.shape[1]
        else np.tile(np.arange(n), (len(z), 1))
    )
    order = np.argsort(-np.take_along_axis(z, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)
