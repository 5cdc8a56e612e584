"""Choosing the next token from logits: the field's transforms, in the order of transformers.

Repetition penalty, temperature, top-k, top-p, min-p; then one draw. Temperature 0 is greedy: the arg-max, lowest id on ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apr.errors import UsageError
from apr.kernels.softmax import softmax


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen.

    temperature:         0 is greedy
    top_k:               keep the k most likely; 0 keeps all
    top_p:               keep the smallest set whose probability reaches p; 1 keeps all
    min_p:               keep tokens at least min_p times as likely as the most likely; 0 keeps all
    repetition_penalty:  divides positive and multiplies negative logits of tokens seen so far; 1 is none
    seed:                of the random draws; the same seed and logits give the same tokens
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "temperature": (self.temperature, 0.0, 100.0),
            "top_k": (self.top_k, 0, 1 << 31),
            "top_p": (self.top_p, 0.0, 1.0),
            "min_p": (self.min_p, 0.0, 1.0),
            "repetition_penalty": (self.repetition_penalty, 0.01, 100.0),
            "seed": (self.seed, 0, (1 << 64) - 1),
        }
        for name, (value, least, most) in ranges.items():
            if not least <= value <= most:  # also refuses NaN
                raise UsageError(f"{name} is {value}, expected {least} to {most}")


class Sampler:
    """The draws of one generation: `Sampling` and a random stream."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._random = np.random.Generator(np.random.PCG64(sampling.seed))

    def choose(self, logits: np.ndarray, seen: Sequence[int]) -> int:
        """The next token id from logits, float32 [vocab_size], given the ids so far (prompt and output)."""
        logits = penalised(logits, seen, self.sampling.repetition_penalty)
        if self.sampling.temperature == 0.0:
            return int(np.argmax(logits))
        kept = filtered(logits, self.sampling)
        ids = np.flatnonzero(kept > -np.inf)
        cumulative = np.cumsum(softmax(kept[ids].astype(np.float64)))
        drawn = int(np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right"))
        return int(ids[min(drawn, len(ids) - 1)])


def penalised(logits: np.ndarray, seen: Sequence[int], penalty: float) -> np.ndarray:
    """Logits with the repetition penalty of Keskar et al. 2019 on every id in `seen`; the same array if it is 1."""
    if penalty == 1.0 or not seen:
        return logits
    ids = np.unique(np.asarray(seen, dtype=np.int64))
    changed = logits.copy()
    changed[ids] = np.where(logits[ids] > 0, logits[ids] / np.float32(penalty), logits[ids] * np.float32(penalty))
    return changed


def filtered(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Logits over the temperature, with every token that top-k, top-p or min-p removes at -inf; float32 [vocab_size]."""
    kept: np.ndarray = logits / np.float32(sampling.temperature)
    if 0 < sampling.top_k < kept.size:
        kept = np.where(kept < np.partition(kept, -sampling.top_k)[-sampling.top_k], -np.inf, kept)
    if sampling.top_p < 1.0:
        kept = _nucleus(kept, sampling.top_p)
    if sampling.min_p > 0.0:
        probabilities = softmax(kept)
        kept = np.where(probabilities < sampling.min_p * probabilities.max(), -np.inf, kept)
    return kept


def _nucleus(logits: np.ndarray, top_p: float) -> np.ndarray:
    """Keep the most likely tokens up to and including the one that reaches `top_p` (Holtzman et al. 2019)."""
    ascending = np.argsort(logits, kind="stable")
    cumulative = np.cumsum(softmax(logits[ascending].astype(np.float64)))
    removed = cumulative <= 1.0 - top_p
    removed[-1] = False  # the most likely one always stays
    kept = logits.copy()
    kept[ascending[removed]] = -np.inf
    return kept
