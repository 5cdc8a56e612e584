"""What every architecture's forward pass shares: spans of new tokens, and taps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from apr.models._kv_cache import KVCache

# called with a slot's name and its value; returns what the pass shall go on with
Tap = Callable[[str, np.ndarray], np.ndarray]


def no_tap(name: str, value: np.ndarray) -> np.ndarray:
    """Look at nothing, change nothing."""
    del name
    return value


@dataclass(frozen=True, slots=True)
class Span:
    """New tokens of one sequence: int64 [n_tokens], at least one, following what its cache holds."""

    token_ids: np.ndarray
    cache: KVCache


def positions_of(span: Span) -> np.ndarray:
    """int64 [n_tokens]: the positions of a span's tokens, counted from the start of its sequence."""
    return np.arange(span.cache.length, span.cache.length + len(span.token_ids), dtype=np.int64)


def last_rows(x: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    """float32 [n_sequences, size]: the row of each span's last token."""
    ends = np.cumsum([len(span.token_ids) for span in spans]) - 1
    rows: np.ndarray = x[ends]
    return rows
