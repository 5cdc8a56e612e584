"""Base files of `llama-perplexity --kl-divergence-base`, written by the formulas of perplexity.cpp."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from apr.engines._subject import Subject
from apr.models._decoder import Span


def encoded(logits: np.ndarray) -> bytes:
    """A row as perplexity.cpp's `log_softmax(n_vocab, logits, log_prob, tok)` writes it, in float32 like there."""
    logits = logits.astype(np.float32)
    most = logits.max()
    least = np.float32(max(logits.min(), most - np.float32(16)))
    log_sum = np.float32(np.log(np.exp(logits - most).astype(np.float64).sum()))
    scale = np.float32((most - least) / np.float32(65535))
    values = np.zeros(2 * ((len(logits) + 1) // 2), dtype=np.uint16)
    if scale:
        nearest = np.rint(np.float32(1) / scale * (logits - least))
        values[: len(logits)] = np.where(logits > least, nearest, 0)
    return struct.pack("<ff", scale, least - most - log_sum) + values.tobytes()


def written(path: Path, tokens: np.ndarray, logits: Callable[[np.ndarray], np.ndarray], n_vocab: int) -> Path:
    """A base file of `tokens`, int32 [n_chunk, n_ctx]; `logits` gives those of a chunk, [n_ctx, n_vocab]."""
    n_chunk, n_ctx = tokens.shape
    rows = b"".join(encoded(row) for chunk in tokens for row in logits(chunk)[n_ctx // 2 : n_ctx - 1])
    path.write_bytes(b"_logits_" + struct.pack("<Iii", n_ctx, n_vocab, n_chunk) + tokens.astype("<i4").tobytes() + rows)
    return path


def logits_of(subject: Subject, ids: np.ndarray) -> np.ndarray:
    return subject.session.forward([Span(ids.astype(np.int64), subject.session.new_cache())], rows="all")
