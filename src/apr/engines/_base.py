"""What an engine is: a file that can `load` a checkpoint into a session, which turns token ids into logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np

from apr.models._checkpoint import Checkpoint
from apr.models._decoder import Tap, no_tap


class Cache(Protocol):
    """What a session remembers of one sequence."""

    @property
    def length(self) -> int:
        """Positions held."""

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""


class Session(Protocol):
    """A loaded model.

    engine, engine_version, kernel_set, instruction_set, threads: what computes, for the run record
    max_positions: the longest sequence that the model is made for
    """

    engine: str
    engine_version: str
    kernel_set: str
    instruction_set: str
    threads: int
    max_positions: int

    def new_cache(self) -> Cache:
        """An empty cache for one sequence."""

    def forward(
        self, token_ids: np.ndarray, cache: Cache, *, tap: Tap = no_tap, rows: Literal["last", "all"] = "last"
    ) -> np.ndarray:
        """Logits after new tokens (int64 [n_tokens]), float32 [1 or n_tokens, vocab_size]; the cache moves on by n_tokens."""


class Loader(Protocol):
    """The `load` of an engine's file."""

    def __call__(
        self, checkpoint: Checkpoint, *, threads: int, progress: Callable[[int], None] | None = None
    ) -> Session:
        """Make a session. `progress` is called with the bytes of each tensor as it is ready. Raises EngineError."""
