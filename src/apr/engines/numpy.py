"""The definition: the forward pass of `models` on NumPy arrays, over weights decoded to float32."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence

import numpy as np
import threadpoolctl

import apr
from apr.engines._base import Activations, Capability, Rows, check_logits, check_spans, read_only
from apr.kernels._set import NUMPY
from apr.models._checkpoint import Checkpoint
from apr.models._decoder import RopeTables, Span, SpanBatch, Tap, no_tap
from apr.models._kv_cache import KVCache

CAPABILITIES: frozenset[Capability] = frozenset({"logits", "taps", "forcing"})


class NumpySession:
    """A checkpoint's weights, decoded, under the model's forward pass, which runs op by op."""

    engine = "numpy"
    engine_version = apr.__version__
    kernel_set = NUMPY.name
    instruction_set = platform.machine()
    activations = "float32"
    kv_cache_dtype = "float32"

    def __init__(self, checkpoint: Checkpoint, *, threads: int, progress: Callable[[int], None] | None = None) -> None:
        self.threads = threads
        self.max_positions = checkpoint.config.max_position_embeddings
        weights = checkpoint.weights(threads=threads, progress=progress)
        self.model = checkpoint.architecture(checkpoint.config, weights, NUMPY)
        self._config = checkpoint.config
        self._tables = RopeTables(checkpoint.config)
        self._threads = threadpoolctl.ThreadpoolController()

    def new_cache(self) -> KVCache:
        """An empty cache for one sequence."""
        c = self._config
        return KVCache(
            num_hidden_layers=c.num_hidden_layers, num_key_value_heads=c.num_key_value_heads, head_dim=c.head_dim
        )

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Logits after new tokens (`Session.forward`)."""
        check_spans(spans, vocab_size=self._config.vocab_size)
        batch = SpanBatch(spans, self._tables)
        with self._threads.limit(limits=self.threads, user_api="blas"):
            logits: np.ndarray = self.model.forward(batch, tap=read_only(tap), rows=rows)
        batch.advance()
        check_logits(logits, spans)
        return logits


def load(
    checkpoint: Checkpoint,
    *,
    threads: int,
    activations: Activations = "int8",
    progress: Callable[[int], None] | None = None,
) -> NumpySession:
    """Decode the weights and make a session; activations are exact whatever is asked for.

    Raises MissingTensor and ShapeMismatch for an incomplete checkpoint.
    """
    del activations
    return NumpySession(checkpoint, threads=threads, progress=progress)
