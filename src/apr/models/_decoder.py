"""What every architecture's forward pass shares: taps, and the batch, where rows of different sequences differ.

Everything in a forward pass works on rows, one a token, whichever sequence they belong to, but for three things:
positions, attention, and the last row of each sequence. Those are asked of the `Batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from apr.kernels.attention import attention
from apr.kernels.rope import rope_table
from apr.models._config import ModelConfig
from apr.models._kv_cache import KVCache
from apr.models._rope import inverse_frequencies

# called with a slot's name and its value; returns what the pass shall go on with
Tap = Callable[[str, np.ndarray], np.ndarray]
RopeTable = tuple[np.ndarray, np.ndarray]

# positions whose angles are computed together: a row of a table never depends on how many were asked for
_TABLE_CHUNK = 256


def no_tap(name: str, value: np.ndarray) -> np.ndarray:
    """Look at nothing, change nothing."""
    del name
    return value


class Cache(Protocol):
    """What a session remembers of one sequence."""

    @property
    def length(self) -> int:
        """Positions held."""

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""


@dataclass(frozen=True, slots=True)
class Span:
    """New tokens of one sequence: int64 [n_tokens], at least one, following what its cache holds."""

    token_ids: np.ndarray
    cache: Cache


class Batch(Protocol):
    """The new tokens of one or more sequences: what a forward pass is about.

    token_ids:  int64 [n_tokens], those of all sequences one after the other
    """

    @property
    def token_ids(self) -> np.ndarray: ...

    def rope_table(self, theta: float | None) -> RopeTable:
        """Cosines and sines of the new positions, float32 [n_tokens, rotary_dim / 2] each.

        theta:  overrides the config's base, unscaled; None for what the config says
        """

    def attention(
        self,
        layer: int,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        *,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> np.ndarray:
        """New queries attend to all keys of their sequence, float32 [n_tokens, heads * head_dim] (`kernels/attention`).

        q, k, v:  float32 [n_tokens, heads, head_dim]; k and v join the layer's cache
        """

    def last_rows(self, x: np.ndarray) -> np.ndarray:
        """float32 [n_sequences, size]: the row of each sequence's last new token."""


class RopeTables:
    """A model's cosines and sines by position, made as they are asked for."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        scaling = config.rope_scaling
        # LongRoPE turns faster beyond the length that the model was trained on
        self._original = (
            (scaling.original_max_position_embeddings or config.max_position_embeddings)
            if scaling is not None and scaling.rope_type == "longrope"
            else None
        )
        self._tables: dict[tuple[float | None, bool], np.ndarray] = {}

    def rows(self, theta: float | None, start: int, stop: int, *, n_positions: int) -> np.ndarray:
        """float32 [stop - start, rotary_dim], a view: cosines, then sines, of positions `start` to `stop`.

        n_positions:  how long the sequence is with all its new tokens; LongRoPE looks at it
        """
        key = (theta, self._original is not None and n_positions > self._original)
        table = self._tables.get(key)
        if table is None or table.shape[0] < stop:
            table = self._tables[key] = self._grown(table, theta, stop, n_positions)
        return table[start:stop]

    def _grown(self, table: np.ndarray | None, theta: float | None, stop: int, n_positions: int) -> np.ndarray:
        frequencies, factor = inverse_frequencies(self.config, n_positions=n_positions, theta=theta)
        held = 0 if table is None else table.shape[0]
        chunks = [] if table is None else [table]
        for start in range(held, max(stop, 2 * held), _TABLE_CHUNK):
            positions = np.arange(start, start + _TABLE_CHUNK, dtype=np.int64)
            chunks.append(np.concatenate(rope_table(positions, frequencies, factor=factor), axis=1))
        return np.concatenate(chunks)


class SpanBatch:
    """The batch that is computed as it is asked for, on NumPy arrays and caches of `_kv_cache`."""

    def __init__(self, spans: Sequence[Span], tables: RopeTables) -> None:
        self.token_ids = np.concatenate([span.token_ids for span in spans])
        self._tables = tables
        self._rope_tables: dict[float | None, RopeTable] = {}
        self._caches: list[KVCache] = []
        for span in spans:
            assert isinstance(span.cache, KVCache)
            self._caches.append(span.cache)
        ends = np.cumsum([len(span.token_ids) for span in spans])
        self._rows = [slice(end - len(span.token_ids), end) for span, end in zip(spans, ends.tolist(), strict=True)]

    def rope_table(self, theta: float | None) -> RopeTable:
        """Cosines and sines of the new positions (`Batch.rope_table`)."""
        if theta not in self._rope_tables:
            parts = []
            for rows, cache in zip(self._rows, self._caches, strict=True):
                stop = cache.length + rows.stop - rows.start
                parts.append(self._tables.rows(theta, cache.length, stop, n_positions=stop))
            cos, sin = np.split(np.concatenate(parts), 2, axis=1)
            self._rope_tables[theta] = cos, sin
        return self._rope_tables[theta]

    def attention(
        self,
        layer: int,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        *,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> np.ndarray:
        """Each sequence by itself (`Batch.attention`)."""
        contexts = []
        for rows, cache in zip(self._rows, self._caches, strict=True):
            keys, values = cache.extend(layer, k[rows], v[rows])
            contexts.append(attention(q[rows], keys, values, scale=scale, window=window, softcap=softcap))
        return contexts[0] if len(contexts) == 1 else np.concatenate(contexts)

    def last_rows(self, x: np.ndarray) -> np.ndarray:
        """float32 [n_sequences, size]: the row of each sequence's last new token."""
        last: np.ndarray = x[[rows.stop - 1 for rows in self._rows]]
        return last

    def advance(self) -> None:
        """Count the new positions in the caches: called when every layer has been given them."""
        for rows, cache in zip(self._rows, self._caches, strict=True):
            cache.advance(rows.stop - rows.start)
