"""Our own engine: the forward pass of `models` over a kernel set."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Literal

import numpy as np
import threadpoolctl

import apr
from apr.engines._base import Cache
from apr.errors import EngineError
from apr.kernels._set import NUMPY
from apr.models._checkpoint import Checkpoint
from apr.models._decoder import Span, Tap, no_tap
from apr.models._kv_cache import KVCache


class NativeSession:
    """A checkpoint's weights, decoded to float32, under the model's forward pass."""

    engine = "native"
    engine_version = apr.__version__
    kernel_set = NUMPY.name
    instruction_set = platform.machine()

    def __init__(self, checkpoint: Checkpoint, *, threads: int, progress: Callable[[int], None] | None = None) -> None:
        self.threads = threads
        self.max_positions = checkpoint.config.max_position_embeddings
        self.model = checkpoint.architecture(checkpoint.config, checkpoint.weights(progress=progress), NUMPY)
        self._vocab_size = checkpoint.config.vocab_size
        self._threads = threadpoolctl.ThreadpoolController()

    def new_cache(self) -> KVCache:
        """An empty cache for one sequence."""
        cache: KVCache = self.model.new_cache()
        return cache

    def forward(
        self, token_ids: np.ndarray, cache: Cache, *, tap: Tap = no_tap, rows: Literal["last", "all"] = "last"
    ) -> np.ndarray:
        """Logits after new tokens (int64 [n_tokens]), float32 [1 or n_tokens, vocab_size].

        Raises EngineError for an id outside the vocabulary, and for logits that are not finite.
        """
        assert isinstance(cache, KVCache)
        if token_ids.size == 0 or token_ids.min() < 0 or token_ids.max() >= self._vocab_size:
            raise EngineError(
                f"token ids {token_ids.tolist()[:8]} are not all within the model's vocabulary of {self._vocab_size}"
            )
        with self._threads.limit(limits=self.threads, user_api="blas"):
            logits: np.ndarray = self.model.forward([Span(token_ids, cache)], tap=tap, rows=rows)
        if not np.isfinite(logits).all():
            raise EngineError(
                f"the logits at position {cache.length - 1} are not finite; `apr validate` finds a damaged weight, if that is the cause"
            )
        return logits


def load(checkpoint: Checkpoint, *, threads: int, progress: Callable[[int], None] | None = None) -> NativeSession:
    """Decode the weights and make a session. Raises MissingTensor and ShapeMismatch for an incomplete checkpoint."""
    return NativeSession(checkpoint, threads=threads, progress=progress)
