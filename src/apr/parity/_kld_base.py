"""llama.cpp's saved predictions (`llama-perplexity --kl-divergence-base`) as a reference, and its figures of a subject.

Source: llama.cpp, tools/perplexity/perplexity.cpp (`perplexity`, `log_softmax`, `kl_divergence`). Little-endian:

    "_logits_"  uint32 n_ctx  int32 n_vocab  int32 n_chunk  int32 tokens[n_chunk * n_ctx]
    n_chunk * (n_ctx - 1 - n_ctx / 2) rows, each of float32 scale, float32 least log-probability, uint16[n_vocab], padded to
    an even number: log-probability = scale * value + least

A row is of the second half of a chunk's positions but the last. Values are 16 bits over at most 16 logits below the first:
what lies lower is raised to the least, and left out of every sum, so that a row need not sum to one. That is the file's
floor, and it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from apr.engines._subject import Subject
from apr.errors import BadMagic, BadMetadata, LimitExceeded, TrailingBytes, TruncatedFile, UsageError
from apr.parity._divergence import log_probabilities, mean_interval
from apr.parity._teacher_forced import rows_of

MAGIC = b"_logits_"
_HEADER_BYTES = 20
# no context or vocabulary of a published model comes near these; larger numbers are damage or an attack
MAX_CONTEXT, MAX_VOCABULARY, MAX_CHUNKS = 1 << 22, 1 << 23, 1 << 24
# probabilities below e^-16 are left out of the sum, as in the source
_LEAST_LOG_PROBABILITY = -16.0
# a first token of probability one, in float32 and 16 bits
_ROUNDING = 1e-3
_PERCENTILES = (99.9, 99.0, 95.0, 90.0, 10.0, 5.0, 1.0, 0.1)
_DELTA_PERCENTILES = (99.9, 99.0, 95.0, 90.0, 75.0, 25.0, 10.0, 5.0, 1.0, 0.1)


@dataclass(frozen=True, slots=True)
class KldBase:
    """An opened file; rows are read as they are asked for.

    tokens:  int32 [n_chunk, n_ctx]
    """

    path: Path
    n_ctx: int
    n_vocab: int
    n_chunk: int
    tokens: np.ndarray
    _rows: np.ndarray = field(repr=False)

    @property
    def first(self) -> int:
        """The first position of a chunk that has a row."""
        return self.n_ctx // 2

    @property
    def n_rows(self) -> int:
        """Rows of a chunk: positions `first` to n_ctx - 2."""
        return self.n_ctx - 1 - self.first

    def chunk(self, index: int) -> np.ndarray:
        """float32 [n_rows, n_vocab]: the log-probabilities of a chunk. Raises BadMetadata for a row that holds none."""
        raw = np.asarray(self._rows[index])
        head = np.ascontiguousarray(raw[:, :4]).view("<f4")
        scale, least = head[:, :1].astype(np.float32), head[:, 1:].astype(np.float32)
        if not (np.isfinite(head).all() and (scale >= 0).all() and (scale <= 1).all()):
            raise BadMetadata(
                self.path, f"chunk {index} has a row whose scale or least log-probability is no such number"
            )
        values: np.ndarray = scale * raw[:, 4 : 4 + self.n_vocab].astype(np.float32) + least
        if values.max() > _ROUNDING:
            raise BadMetadata(
                self.path, f"chunk {index} has a log-probability of {values.max():g}, expected none above 0"
            )
        return values

    def errors(self, index: int) -> np.ndarray:
        """float64 [n_rows]: what 16 bits alone add to each row's divergence from what was saved, nats.

        With an error d in each log-probability that is the sum of p d + d² p / 2: the first is what the row misses one by.
        """
        scale = np.ascontiguousarray(np.asarray(self._rows[index])[:, :2]).view("<f4")[:, 0].astype(np.float64)
        log_p = self.chunk(index).astype(np.float64)
        missing = np.where(log_p > _LEAST_LOG_PROBABILITY, np.exp(log_p), 0.0).sum(axis=1) - 1.0
        # d is uniform over one step
        added: np.ndarray = np.abs(missing) + scale**2 / 24.0
        return added


@dataclass(frozen=True, slots=True)
class KldComparison:
    """A subject against a base.

    statistics:  by llama.cpp's own names: (value, uncertainty or None); Δp and "Same top p" in percent
    kl_interval: 95 % of the mean, chunks being drawn anew
    floor:       nats, what 16 bits alone make of the mean divergence; a mean below it says "the same" and no more
    n_positions: rows compared
    """

    statistics: dict[str, tuple[float, float | None]]
    kl_interval: tuple[float, float]
    floor: float
    n_positions: int
    n_nonfinite: int

    @property
    def is_at_floor(self) -> bool:
        """Whether the file can tell the two apart."""
        return self.statistics["Mean    KLD"][0] <= self.floor


def read(path: Path) -> KldBase:
    """Open a base file. Raises FormatError for one that is not what it announces."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    if head[: len(MAGIC)] != MAGIC:
        raise BadMagic(
            path, f"begins with {head[:8]!r}, expected {MAGIC!r}; it was not saved by llama-perplexity", offset=0
        )
    if len(head) < _HEADER_BYTES:
        raise TruncatedFile(path, f"the header is {len(head)} bytes, expected {_HEADER_BYTES}", offset=len(head))
    n_ctx, n_vocab, n_chunk = (int(n) for n in np.frombuffer(head, dtype="<i4", offset=len(MAGIC)))
    limits = (
        ("context", n_ctx, 4, MAX_CONTEXT),
        ("vocabulary", n_vocab, 2, MAX_VOCABULARY),
        ("chunks", n_chunk, 1, MAX_CHUNKS),
    )
    for at, (name, value, least, most) in zip((8, 12, 16), limits, strict=True):
        if not least <= value <= most:
            raise LimitExceeded(path, f"{name} of {value}, expected {least} to {most}", offset=at)
    n_rows, width = n_ctx - 1 - n_ctx // 2, 2 * ((n_vocab + 1) // 2) + 4
    tokens_end = _HEADER_BYTES + 4 * n_chunk * n_ctx
    wanted = tokens_end + 2 * n_chunk * n_rows * width
    if size < wanted:
        raise TruncatedFile(
            path, f"{size} bytes, expected {wanted} for {n_chunk} chunks; it was not written to its end", offset=size
        )
    if size > wanted:
        raise TrailingBytes(path, f"{size} bytes, expected {wanted}", offset=wanted)
    tokens = np.fromfile(path, dtype="<i4", count=n_chunk * n_ctx, offset=_HEADER_BYTES).reshape(n_chunk, n_ctx)
    if tokens.min() < 0 or tokens.max() >= n_vocab:
        raise BadMetadata(
            path, f"token ids {tokens.min()} to {tokens.max()} are not all within the vocabulary of {n_vocab}"
        )
    rows = np.memmap(path, dtype="<u2", mode="r", offset=tokens_end, shape=(n_chunk, n_rows, width))
    return KldBase(path, n_ctx, n_vocab, n_chunk, tokens, rows)


def compare(base: KldBase, subject: Subject, *, chunks: int | None = None, seed: int = 0) -> KldComparison:
    """llama.cpp's figures of a subject on the base's tokens.

    chunks:  at most so many, from the first
    Raises   UsageError where the subject's vocabulary is another; EngineError.
    """
    n_vocab = subject.config.vocab_size
    if n_vocab != base.n_vocab:
        raise UsageError(
            f"{base.path} holds {base.n_vocab} predictions a position, {subject.name} makes {n_vocab}: not the same vocabulary"
        )
    parts = [_chunk(base, subject, i) for i in range(min(base.n_chunk, chunks or base.n_chunk))]
    kl, delta, nll, nll_base, same, floors, finite = (np.concatenate(column) for column in zip(*parts, strict=True))
    clusters = np.repeat(np.arange(len(parts)), base.n_rows)
    return KldComparison(
        statistics=dict(_statistics(kl[finite], delta[finite], nll[finite], nll_base[finite], same[finite])),
        kl_interval=mean_interval(np.where(finite, kl, np.nan), clusters, seed=seed),
        floor=float(floors.mean()),
        n_positions=len(kl),
        n_nonfinite=int((~finite).sum()),
    )


def _chunk(base: KldBase, subject: Subject, index: int) -> tuple[np.ndarray, ...]:
    """By row: divergence, Δp, both negative log-likelihoods, same top, the file's error, whether it is finite."""
    ids = base.tokens[index].astype(np.int64)
    fed = ids.copy()
    # llama.cpp puts a beginning of text into each chunk's first place, and the file does not say so
    if subject.spec.add_bos and subject.spec.bos_token_id is not None:
        fed[0] = subject.spec.bos_token_id
    logits = rows_of(subject.session, fed[:-1].tolist())[base.first :]
    finite = np.isfinite(logits).all(axis=1)
    log_q = log_probabilities(np.where(finite[:, None], logits, 0))
    log_p = base.chunk(index).astype(np.float64)
    next_ids = ids[base.first + 1 :]
    at = np.arange(len(next_ids))
    p = np.where(log_p > _LEAST_LOG_PROBABILITY, np.exp(log_p), 0.0)
    nll, nll_base = -log_q[at, next_ids], -log_p[at, next_ids]
    return (
        (p * (log_p - log_q)).sum(axis=1),
        np.exp(-nll) - np.exp(-nll_base),
        nll,
        nll_base,
        log_p.argmax(axis=1) == log_q.argmax(axis=1),
        base.errors(index),
        finite,
    )


def _statistics(
    kl: np.ndarray, delta: np.ndarray, nll: np.ndarray, nll_base: np.ndarray, same: np.ndarray
) -> Iterator[tuple[str, tuple[float, float | None]]]:
    """llama.cpp's names, in its order, with its formulas."""
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
    top = float(same.mean())
    yield "Same top p", (100.0 * top, 100.0 * math.sqrt(top * (1.0 - top) / max(n - 1, 1)))


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error, by the source's formula: none for ten values or fewer."""
    n, mean = len(values), float(values.mean())
    variance = float((values**2).mean()) - mean**2
    return mean, math.sqrt(variance / (n - 1)) if variance > 0 and n > 10 else 0.0


def as_json(comparison: KldComparison) -> dict[str, Any]:
    """Plain data for a record."""
    return {
        "statistics": {name: list(pair) for name, pair in comparison.statistics.items()},
        "kl_interval": list(comparison.kl_interval),
        "floor": comparison.floor,
        "n_positions": comparison.n_positions,
        "n_nonfinite": comparison.n_nonfinite,
    }
