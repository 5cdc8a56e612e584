"""A checkpoint under the compiled kernels: its forward pass is recorded once, lowered to a plan, and the plan replayed.

There is a plan for passes that nobody looks into and one for those that are tapped, for the last rows and for all of
them: four, each made when it is first needed. All four compute the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

import apr
from apr.engines._base import Activations, Rows, check_logits, check_spans, read_only
from apr.engines._lowering import Lowered, lower
from apr.engines._native_weights import NativeWeights
from apr.engines._recording import record
from apr.engines._statistics import Statistics
from apr.kernels import _native
from apr.models._checkpoint import Checkpoint
from apr.models._decoder import RopeTables, Span, Tap, no_tap

# tokens that go through the layers together: enough to use each weight that is read many times, few enough that what
# lies between two layers stays in the cache
PIECE_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens [start, stop) of a span."""

    span: Span
    start: int
    stop: int

    @property
    def is_last(self) -> bool:
        """Whether the span ends here."""
        return self.stop == len(self.span.token_ids)


def pieces(spans: Sequence[Span], limit: int) -> Iterator[list[Part]]:
    """Cut spans, in their order, into pieces of at most `limit` tokens, each of which may hold parts of several spans."""
    piece: list[Part] = []
    room = limit
    for span in spans:
        start = 0
        while start < len(span.token_ids):
            stop = min(start + room, len(span.token_ids))
            piece.append(Part(span, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield piece
                piece, room = [], limit
    if piece:
        yield piece


class NativeSession:
    """Weights laid out for the kernels, threads, and recorded passes. Calls from several threads take turns."""

    engine = "native"
    engine_version = apr.__version__
    kernel_set = "native"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        threads: int,
        activations: Activations = "int8",
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.threads = threads
        self.activations = activations
        self.kv_cache_dtype = "float16" if activations == "int8" else "float32"
        self.max_positions = checkpoint.config.max_position_embeddings
        self._config = checkpoint.config
        self._weights = NativeWeights(checkpoint, threads=threads, progress=progress)
        self._tables = RopeTables(checkpoint.config)
        self._pool = _native.Pool(threads)
        self._plans: dict[tuple[str, Rows], Lowered] = {}
        self._turn = threading.Lock()

    @property
    def instruction_set(self) -> str:
        """The one in use."""
        return _native.instruction_set()

    def new_cache(self) -> _native.KVCache:
        """An empty cache for one sequence."""
        c = self._config
        return _native.KVCache(c.num_hidden_layers, c.num_key_value_heads, c.head_dim, self.kv_cache_dtype)

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Logits after new tokens (`Session.forward`). `Statistics` is computed where the values are."""
        check_spans(spans, vocab_size=self._config.vocab_size)
        held = [span.cache.length for span in spans]
        with self._turn:
            try:
                logits = self._forward(spans, tap, rows)
            except BaseException:
                for span, length in zip(spans, held, strict=True):
                    span.cache.truncate(length)
                raise
        check_logits(logits, spans)
        return logits

    def _forward(self, spans: Sequence[Span], tap: Tap, rows: Rows) -> np.ndarray:
        lowered = self._lowered("none" if tap is no_tap else "all", rows)
        # a tap sees all rows of a slot at once, because it may return others
        is_cut = tap is no_tap or isinstance(tap, Statistics)
        n_tokens = sum(len(span.token_ids) for span in spans)
        limit = PIECE_TOKENS if is_cut else n_tokens
        logits = np.empty((n_tokens if rows == "all" else len(spans), self._config.vocab_size), dtype=np.float32)
        n_found = 0
        for piece in pieces(spans, limit):
            n_finished = sum(part.is_last for part in piece)
            n_rows = sum(part.stop - part.start for part in piece) if rows == "all" else n_finished
            self._bind(lowered, piece)
            if tap is no_tap:
                lowered.plan.run(self._pool, 0, lowered.n_steps if n_rows else lowered.n_cache_steps)
            elif isinstance(tap, Statistics):
                self._run_with_statistics(lowered, tap, n_finished)
            else:
                self._run_tapped(lowered, read_only(tap))
            lowered.plan.advance()
            if n_rows:
                logits[n_found : n_found + n_rows] = lowered.plan.read(lowered.output)[:n_rows]
                n_found += n_rows
        return logits

    def _bind(self, lowered: Lowered, piece: Sequence[Part]) -> None:
        """Tell the plan what the next run is about."""
        tables = []
        for theta in lowered.thetas:
            parts = []
            for part in piece:
                first = part.span.cache.length
                n_positions = first - part.start + len(part.span.token_ids)
                parts.append(self._tables.rows(theta, first, first + part.stop - part.start, n_positions=n_positions))
            tables.append(_joined(parts))
        token_ids = _joined([part.span.token_ids[part.start : part.stop] for part in piece])
        caches = []
        for part in piece:
            assert isinstance(part.span.cache, _native.KVCache)
            caches.append(part.span.cache)
        lowered.plan.bind(
            np.ascontiguousarray(token_ids, dtype=np.int64), caches, [part.stop - part.start for part in piece], tables
        )

    def _run_tapped(self, lowered: Lowered, tap: Tap) -> None:
        """Run up to each slot, show its value, and go on with what the tap returns."""
        plan, at = lowered.plan, 0
        for site in lowered.sites:
            plan.run(self._pool, at, site.stop)
            at = site.stop
            value = plan.read(site.buffer)
            shown = value.reshape(site.shape)
            returned = tap(site.name, shown)
            if returned is not shown:
                plan.write(site.buffer, np.ascontiguousarray(returned, dtype=np.float32).reshape(value.shape))
        plan.run(self._pool, at, lowered.n_steps)

    def _run_with_statistics(self, lowered: Lowered, tap: Statistics, n_finished: int) -> None:
        """Run up to each slot and note the figures of its rows; of a span that goes on, the last row is none."""
        plan, at = lowered.plan, 0
        for site in lowered.sites:
            plan.run(self._pool, at, site.stop)
            at = site.stop
            figures = plan.statistics(self._pool, site.buffer)
            tap.add(site.name, figures[:n_finished] if site.rows == "sequences" else figures)
        plan.run(self._pool, at, lowered.n_steps)

    def _lowered(self, taps: Literal["none", "all"], rows: Rows) -> Lowered:
        """The plan for passes of a kind, recorded the first time."""
        if (taps, rows) not in self._plans:
            graph = record(self._config, rows=rows)
            self._plans[taps, rows] = lower(graph, _native.Plan(self.activations), self._weights, taps=taps)
        return self._plans[taps, rows]


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
