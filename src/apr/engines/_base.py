"""What an engine is: a file that can `load` a checkpoint into a session, which turns token ids into logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np

from apr.errors import EngineError
from apr.models._checkpoint import Checkpoint
from apr.models._decoder import Cache, Span, Tap, no_tap

__all__ = ["Activations", "Cache", "Loader", "Rows", "Session", "Span", "check_logits", "check_spans", "read_only"]

Rows = Literal["last", "all"]
# "int8": rounded to 8 bits in blocks of 32 before they meet a quantised weight; "float32": exact
Activations = Literal["int8", "float32"]


class Session(Protocol):
    """A loaded model.

    Its properties say what computes, for the run record: engine and version; the kernel set ("native" or "numpy") and
    the instruction set in use; threads; how activations are held in products and in the key-value cache.
    """

    @property
    def engine(self) -> str: ...
    @property
    def engine_version(self) -> str: ...
    @property
    def kernel_set(self) -> str: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def activations(self) -> str: ...
    @property
    def kv_cache_dtype(self) -> str: ...
    @property
    def max_positions(self) -> int:
        """The longest sequence that the model is made for."""

    def new_cache(self) -> Cache:
        """An empty cache for one sequence."""

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Logits after the new tokens of one or more sequences, whose caches move on by as many positions.

        spans:   each a sequence's new token ids and its cache (all different); lengths may differ
        tap:     called once with every slot's name and value; a value is read-only, and another that is returned is
                 computed on in its place
        rows:    "last": one row a sequence; "all": one row a token
        Returns  float32 [n_sequences or n_tokens, vocab_size]
        Raises   EngineError for an id outside the vocabulary, and for logits that are not finite
        """


class Loader(Protocol):
    """The `load` of an engine's file."""

    def __call__(
        self,
        checkpoint: Checkpoint,
        *,
        threads: int,
        activations: Activations = "int8",
        progress: Callable[[int], None] | None = None,
    ) -> Session:
        """Make a session. `progress` is called with bytes of tensors as they are ready. Raises EngineError.

        activations:  the least exact form allowed; a session says which it uses
        """


def check_spans(spans: Sequence[Span], *, vocab_size: int) -> None:
    """Raise EngineError for a sequence without tokens, and for an id outside the vocabulary."""
    for span in spans:
        ids = span.token_ids
        if ids.size == 0 or ids.min() < 0 or ids.max() >= vocab_size:
            raise EngineError(f"token ids {ids.tolist()[:8]} are not all within the model's vocabulary of {vocab_size}")


def check_logits(logits: np.ndarray, spans: Sequence[Span]) -> None:
    """Raise EngineError for logits that are not finite: no token can be chosen from them."""
    # a NaN is both the least and the greatest of all
    if not (math.isfinite(logits.min()) and math.isfinite(logits.max())):
        last = max(span.cache.length for span in spans) - 1
        raise EngineError(
            f"the logits up to position {last} are not finite; `apr validate` finds a damaged weight, if that is the cause"
        )


def read_only(tap: Tap) -> Tap:
    """The tap, with values that it cannot change in place: what is computed on is what it returns."""
    if tap is no_tap:
        return tap

    def guarded(name: str, value: np.ndarray) -> np.ndarray:
        shown = value.view()
        shown.flags.writeable = False
        returned = tap(name, shown)
        return value if returned is shown else returned

    return guarded
