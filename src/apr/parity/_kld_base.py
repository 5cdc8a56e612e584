"""The file of llama.cpp's saved predictions (`llama-perplexity --kl-divergence-base`).

Source: llama.cpp, tools/perplexity/perplexity.cpp (`perplexity`, `log_softmax`). Little-endian:

    "_logits_"  uint32 n_ctx  int32 n_vocab  int32 n_chunk  int32 tokens[n_chunk * n_ctx]
    n_chunk * (n_ctx - 1 - n_ctx / 2) rows, each of float32 scale, float32 least log-probability, uint16[n_vocab], padded to
    an even number: log-probability = scale * value + least

A row is of the second half of a chunk's positions but the last. Values are 16 bits over at most 16 logits below the first:
what lies lower is raised to the least, and left out of every sum, so that a row need not sum to one. That is the file's
floor, and it is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from apr.errors import BadMagic, BadMetadata, LimitExceeded, TrailingBytes, TruncatedFile

MAGIC = b"_logits_"
_HEADER_BYTES = 20
# no context or vocabulary of a published model comes near these; larger numbers are damage or an attack
MAX_CONTEXT, MAX_VOCABULARY, MAX_CHUNKS = 1 << 22, 1 << 23, 1 << 24
# probabilities below e^-16 are left out of the sum, as in the source
LEAST_LOG_PROBABILITY = -16.0
# a first token of probability one, in float32 and 16 bits
_ROUNDING = 1e-3


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
        missing = np.where(log_p > LEAST_LOG_PROBABILITY, np.exp(log_p), 0.0).sum(axis=1) - 1.0
        # d is uniform over one step
        added: np.ndarray = np.abs(missing) + scale**2 / 24.0
        return added


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


def is_base(path: Path) -> bool:
    """Whether a file begins as a base file does."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
