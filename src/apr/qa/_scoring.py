"""How well a model expects a text, token by token: the negative log-likelihood, and two of them compared as pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apr.engines._base import Session
from apr.models._decoder import Span

# tokens whose logits are held at a time: 152,000 of float32 each
_AT_ONCE = 64
# neighbours in a text are alike: they stay together where the mean's error is estimated
_BLOCK = 32
_Z95 = 1.96


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of paired differences, nats a token, with its standard error over blocks of neighbours."""

    mean: float
    error: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 %."""
        return self.mean - _Z95 * self.error, self.mean + _Z95 * self.error


def losses(session: Session, token_ids: Sequence[int]) -> np.ndarray:
    """float64 [n - 1]: nats that each token but the first costs, given all before it.

    Computed piece by piece through the cache, as a long prompt is. Raises EngineError for logits that are not finite.
    """
    cache = session.new_cache()
    ids = np.asarray(token_ids, dtype=np.int64)
    found = []
    for start in range(0, len(ids) - 1, _AT_ONCE):
        piece = ids[start : min(start + _AT_ONCE, len(ids) - 1)]
        logits = session.forward([Span(piece, cache)], rows="all")
        targets = ids[start + 1 : start + 1 + len(piece)]
        highest = logits.max(axis=1, keepdims=True)
        log_sum = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1, dtype=np.float64))
        found.append(log_sum - logits[np.arange(len(piece)), targets])
    return np.concatenate(found).astype(np.float64)


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """`first` less `second`, float64 [n] each, token by token."""
    gaps = first - second
    n_blocks = max(2, len(gaps) // _BLOCK)
    means = np.array([block.mean() for block in np.array_split(gaps, n_blocks)])
    return Difference(float(gaps.mean()), float(means.std(ddof=1) / np.sqrt(n_blocks)), len(gaps))
