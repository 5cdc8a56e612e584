"""A subject against predictions that llama.cpp saved (`_kld_base`), in the figures that `llama-perplexity --kl-divergence`
prints, under its names.

Source of the formulas: llama.cpp, tools/perplexity/perplexity.cpp (`kl_divergence`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from apr.engines._subject import OWN_ENGINE, Subject
from apr.errors import UsageError
from apr.parity import margin
from apr.parity._causes import Cause
from apr.parity._divergence import Divergence, diverge, log_probabilities, mean_interval
from apr.parity._kld_base import LEAST_LOG_PROBABILITY, KldBase
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._teacher_forced import rows_of

LINK = "logits"
# log-probabilities worked on together: a float64 copy is 8 MB, and half a dozen are made
_VALUES_AT_ONCE = 2**20
_PERCENTILES = (99.9, 99.0, 95.0, 90.0, 10.0, 5.0, 1.0, 0.1)
_DELTA_PERCENTILES = (99.9, 99.0, 95.0, 90.0, 75.0, 25.0, 10.0, 5.0, 1.0, 0.1)


@dataclass(frozen=True, slots=True)
class KldComparison:
    """A subject against a base.

    statistics:  by llama.cpp's own names: (value, uncertainty or None); Δp and "Same top p" in percent
    kl_interval: 95 % of the mean, chunks being drawn anew
    floor:       nats, what 16 bits alone make of the mean divergence; a mean below it says "the same" and no more
    flips:       the margin analysis, a chunk being a prompt
    n_positions: rows compared, of n_chunks chunks
    """

    statistics: dict[str, tuple[float, float | None]]
    kl_interval: tuple[float, float]
    floor: float
    flips: margin.Judgement
    n_chunks: int
    n_positions: int
    n_nonfinite: int

    @property
    def is_at_floor(self) -> bool:
        """Whether the file can tell the two apart."""
        return self.statistics["Mean    KLD"][0] <= self.floor


def compare(
    base: KldBase,
    subject: Subject,
    *,
    chunks: int | None = None,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> KldComparison:
    """llama.cpp's figures of a subject on the base's tokens.

    chunks:  at most so many, from the first
    Raises   UsageError where the subject's vocabulary is another; EngineError.
    """
    n_vocab = subject.config.vocab_size
    if n_vocab != base.n_vocab:
        raise UsageError(
            f"{base.path} holds {base.n_vocab} predictions a position, {subject.name} makes {n_vocab}: not the same vocabulary"
        )
    parts = []
    n_chunks = min(base.n_chunk, chunks or base.n_chunk)
    for i in range(n_chunks):
        if progress is not None:
            progress(f"{LINK}: chunk {i + 1} of {n_chunks}", i / n_chunks)
        parts.append(_chunk(base, subject, i))
    clusters = np.repeat(np.arange(n_chunks), base.n_rows)
    kl, finite = (np.concatenate([getattr(part, name) for part in parts]) for name in ("kl", "is_finite"))
    return KldComparison(
        statistics=dict(_statistics(parts)),
        kl_interval=mean_interval(np.where(finite, kl, np.nan), clusters, seed=seed),
        floor=float(np.concatenate([part.error for part in parts]).mean()),
        flips=margin.judge(margin.positions_of([("raw", part.divergence) for part in parts]), seed=seed),
        n_chunks=n_chunks,
        n_positions=len(kl),
        n_nonfinite=int((~finite).sum()),
    )


def link(base: KldBase, subject: Subject, found: KldComparison) -> LinkResult:
    """A comparison as the logits link's verdict.

    A base has predictions and nothing else: that a copy drifts can be seen in it, and whether it drifts more in some places
    than in others; where the drift comes from cannot.
    """
    statistics = found.statistics
    mean, agreed = statistics["Mean    KLD"][0], statistics["Same top p"][0]
    measure = {
        "statistics": {name: list(pair) for name, pair in statistics.items()},
        "kl_interval": list(found.kl_interval),
        "floor": found.floor,
        "n_chunks": found.n_chunks,
        "n_chunks_of_base": base.n_chunk,
        "n_positions": found.n_positions,
        "n_nonfinite": found.n_nonfinite,
        "bands": found.flips.bands(),
        "flips": {"verdict": found.flips.verdict, "sentence": found.flips.sentence},
    }
    over = f"{found.n_positions} positions of {found.n_chunks} chunks"
    if found.n_nonfinite:
        sentence = f"logits that are not finite at {found.n_nonfinite} of {over}"
        return different(LINK, [Finding("engine.op", sentence)], measure)
    if found.is_at_floor:
        sentence = (
            f"{over}: the mean divergence, {mean:.2g} nats, is below what the base's 16 bits make, {found.floor:.2g}"
        )
        return same(LINK, sentence, measure)
    if found.flips.verdict == "excess":
        # our own engine is held to its precision by other links: what it computes is then in the file
        cause: Cause = "weights.quantization" if subject.engine == OWN_ENGINE else "engine.op"
        place = found.flips.place
        where = {} if place is None else {"chunk": place // base.n_rows, "position": base.first + place % base.n_rows}
        return different(LINK, [Finding(cause, found.flips.sentence, where)], measure)
    sentence = (
        f"{over} drift by {mean:.2g} nats on average, {agreed:.2f} % with the same first token; {found.flips.sentence}; "
        "saved predictions do not tell where drift comes from: give the original in their place"
    )
    return undecided(LINK, "cannot_tell", sentence, measure)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The rows of one chunk: divergence by llama.cpp's formula, Δp, both negative log-likelihoods, same top, whether the
    subject's logits are finite; the file's own error; our figures of the same rows."""

    kl: np.ndarray
    delta_p: np.ndarray
    nll: np.ndarray
    nll_base: np.ndarray
    is_same: np.ndarray
    is_finite: np.ndarray
    error: np.ndarray
    divergence: Divergence


def _chunk(base: KldBase, subject: Subject, index: int) -> _Chunk:
    ids = base.tokens[index].astype(np.int64)
    fed = ids.copy()
    # llama.cpp puts a beginning of text into each chunk's first place, and the file does not say so
    if subject.spec.add_bos and subject.spec.bos_token_id is not None:
        fed[0] = subject.spec.bos_token_id
    logits = rows_of(subject.session, fed[:-1].tolist())[base.first :]
    saved = base.chunk(index)
    next_ids = ids[base.first + 1 :]
    n_at_once = max(1, _VALUES_AT_ONCE // base.n_vocab)
    pieces = [slice(at, at + n_at_once) for at in range(0, len(saved), n_at_once)]
    columns = zip(*(_rows(saved[piece], logits[piece], next_ids[piece]) for piece in pieces), strict=True)
    kl, delta_p, nll, nll_base, is_same, is_finite = (np.concatenate(column) for column in columns)
    divergence = diverge(saved, logits, next_ids.tolist())
    return _Chunk(kl, delta_p, nll, nll_base, is_same, is_finite, base.errors(index), divergence)


def _rows(saved: np.ndarray, logits: np.ndarray, next_ids: np.ndarray) -> tuple[np.ndarray, ...]:
    """The first columns of `_Chunk`."""
    finite = np.isfinite(logits).all(axis=1)
    log_q = log_probabilities(np.where(finite[:, None], logits, 0))
    log_p = saved.astype(np.float64)
    at = np.arange(len(next_ids))
    p = np.where(log_p > LEAST_LOG_PROBABILITY, np.exp(log_p), 0.0)
    nll, nll_base = -log_q[at, next_ids], -log_p[at, next_ids]
    kl = (p * (log_p - log_q)).sum(axis=1)
    return kl, np.exp(-nll) - np.exp(-nll_base), nll, nll_base, log_p.argmax(axis=1) == log_q.argmax(axis=1), finite


def _statistics(parts: Sequence[_Chunk]) -> Iterator[tuple[str, tuple[float, float | None]]]:
    """llama.cpp's names, in its order, with its formulas."""
    finite = np.concatenate([part.is_finite for part in parts])
    names = ("kl", "delta_p", "nll", "nll_base", "is_same")
    kl, delta, nll, nll_base, is_same = (
        np.concatenate([getattr(part, name) for part in parts])[finite] for name in names
    )
    n = len(kl)
    if not n:
        raise UsageError("no position has finite logits: there is nothing to take statistics of")
    ppl, ppl_error = _mean(nll)
    base, base_error = _mean(nll_base)
    yield "Mean PPL(Q)", (math.exp(ppl), math.exp(ppl) * ppl_error)
    yield "Mean PPL(base)", (math.exp(base), math.exp(base) * base_error)
    covariance = (float((nll * nll_base).mean()) - ppl * base) / max(n - 1, 1)
    ratio_error = math.sqrt(max(ppl_error**2 + base_error**2 - 2.0 * covariance, 0.0))
    yield "Mean ln(PPL(Q)/PPL(base))", (ppl - base, ratio_error)
    yield "Mean PPL(Q)/PPL(base)", (math.exp(ppl - base), math.exp(ppl - base) * ratio_error)
    yield "Mean    KLD", _mean(kl)
    yield "Maximum KLD", (float(kl.max()), None)
    for share in _PERCENTILES[:4]:
        yield f"{share:4.1f}%   KLD", (float(np.percentile(kl, share)), None)
    yield "Median  KLD", (float(np.median(kl)), None)
    for share in _PERCENTILES[4:]:
        yield f"{share:4.1f}%   KLD", (float(np.percentile(kl, share)), None)
    yield "Minimum KLD", (float(kl.min()), None)
    mean, error = _mean(delta)
    yield "Mean    Δp", (100.0 * mean, 100.0 * error)
    yield "Maximum Δp", (100.0 * float(delta.max()), None)
    for share in _DELTA_PERCENTILES[:5]:
        yield f"{share:4.1f}%   Δp", (100.0 * float(np.percentile(delta, share)), None)
    yield "Median  Δp", (100.0 * float(np.median(delta)), None)
    for share in _DELTA_PERCENTILES[5:]:
        yield f"{share:4.1f}%   Δp", (100.0 * float(np.percentile(delta, share)), None)
    yield "Minimum Δp", (100.0 * float(delta.min()), None)
    square, square_error = _mean(delta**2)
    rms = math.sqrt(square)
    yield "RMS Δp", (100.0 * rms, 100.0 * 0.5 / rms * square_error if rms else 0.0)
    top = float(is_same.mean())
    yield "Same top p", (100.0 * top, 100.0 * math.sqrt(top * (1.0 - top) / max(n - 1, 1)))


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error, by the source's formula: none for ten values or fewer."""
    n, mean = len(values), float(values.mean())
    variance = float((values**2).mean()) - mean**2
    return mean, math.sqrt(variance / (n - 1)) if variance > 0 and n > 10 else 0.0
