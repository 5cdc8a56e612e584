"""Choosing the next token from logits: the field's transforms, in the order of transformers.

Repetition penalty, temperature, top-k, top-p, min-p; then one draw. Temperature 0 is greedy: the arg-max, lowest id on ties.
The NumPy functions are the definition; the compiled kernels, where there are any, give the same tokens faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from apr._interrupts import held
from apr.errors import UsageError
from apr.kernels import _extension
from apr.kernels.softmax import softmax

GREEDY_BELOW = 1e-6  # float32 logits over less than this may overflow; no two of them that differ are then both likely


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen.

    temperature:         0 is greedy, and so is anything below a millionth
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


class Summary(Protocol):
    """One row of logits, looked at once.

    top:      int64 [k], the highest, in descending order, lower ids first among equals
    log_sum:  log(sum(exp(logits))); a logit less this is its log-probability
    """

    @property
    def top(self) -> np.ndarray: ...
    @property
    def log_sum(self) -> float: ...


class Sampler:
    """The draws of one generation: `Sampling` and a random stream."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._random = None if sampling.temperature < GREEDY_BELOW else _random(sampling.seed)

    def choose(self, logits: np.ndarray, seen: Sequence[int], *, best: int | None = None) -> int:
        """The next token id from logits, float32 [vocab_size], given the ids so far (prompt and output).

        best:  the arg-max of the logits, if somebody knows it: another look at all of them is saved
        """
        s = self.sampling
        changed = penalised(logits, seen, s.repetition_penalty)
        if self._random is None:
            return int(np.argmax(changed)) if best is None or changed is not logits else best
        uniform = self._random.random()
        if (native := _extension.native()) is not None:
            token_id: int = native.sample(changed, s.temperature, s.top_k, s.top_p, s.min_p, uniform)
            return token_id
        return drawn(changed, s, uniform)


def _random(seed: int) -> np.random.Generator:
    with held():  # NumPy loads this part when it is first asked for
        return np.random.Generator(np.random.PCG64(seed))


def summarize(logits: np.ndarray, k: int) -> Summary:
    """Look at logits, float32 [vocab_size], 1 <= k <= vocab_size; by the compiled kernels if there are any."""
    native = _extension.native()
    return native.summarize(logits, k) if native is not None else summarized(logits, k)


@dataclass(frozen=True, slots=True)
class _Summarized:
    top: np.ndarray
    log_sum: float


def summarized(logits: np.ndarray, k: int) -> Summary:
    """The definition of `summarize`."""
    least = np.partition(logits, -k)[-k]
    above = np.flatnonzero(logits > least)
    ids = np.concatenate([above, np.flatnonzero(logits == least)[: k - len(above)]])
    highest = float(logits.max())
    log_sum = highest + float(np.log(np.sum(np.exp(logits.astype(np.float64) - highest))))
    return _Summarized(top=ids[np.lexsort((ids, -logits[ids]))], log_sum=log_sum)


def penalised(logits: np.ndarray, seen: Sequence[int], penalty: float) -> np.ndarray:
    """Logits with the repetition penalty of Keskar et al. 2019 on every id in `seen`; the same array if it is 1."""
    if penalty == 1.0 or not len(seen):
        return logits
    ids = np.asarray(seen, dtype=np.int64)
    changed = logits.copy()
    # an id that was seen twice is written twice, with the same value
    changed[ids] = np.where(logits[ids] > 0, logits[ids] / np.float32(penalty), logits[ids] * np.float32(penalty))
    return changed


def drawn(logits: np.ndarray, sampling: Sampling, uniform: float) -> int:
    """The definition of the draw: the token whose share of [0, 1) holds `uniform`, the shares in the order of the ids."""
    kept = filtered(logits, sampling)
    ids = np.flatnonzero(kept > -np.inf)
    cumulative = np.cumsum(softmax(kept[ids].astype(np.float64)))
    at = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return int(ids[min(at, len(ids) - 1)])


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
