"""Engines with one fault each, for `Subject(loader=…)`: the right engine, and something done wrong on its way.

Subject(path, loader=at_slot("layers.1.attn", zero_head(2, head_dim=16)))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from apr.engines import native
from apr.engines import numpy as numpy_engine
from apr.engines._base import Rows, Session
from apr.models._checkpoint import Checkpoint
from apr.models._decoder import Cache, Span, Tap, no_tap
from apr.models._kv_cache import KVCache

Fault = Callable[[str, np.ndarray], np.ndarray]
Loader = Callable[..., Session]


class Wrapped:
    """A session behind a fault; what is not overridden is the inner session's."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def new_cache(self) -> Cache:
        made: Cache = self.inner.new_cache()
        return made

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        logits: np.ndarray = self.inner.forward(spans, tap=tap, rows=rows)
        return logits


class WrongSlots(Wrapped):
    """What ops give is changed before anybody sees it."""

    def __init__(self, inner: Any, fault: Fault) -> None:
        super().__init__(inner)
        self.fault = fault

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        def spoilt(name: str, value: np.ndarray) -> np.ndarray:
            return tap(name, np.ascontiguousarray(self.fault(name, value), dtype=np.float32))

        logits: np.ndarray = self.inner.forward(spans, tap=spoilt, rows=rows)
        return logits


def at_slot(slot: str, change: Callable[[np.ndarray], np.ndarray], *, engine: Any = numpy_engine) -> Loader:
    """The op that gives `slot` (or, without a layer, that slot of all layers) gives something else."""

    def fault(name: str, value: np.ndarray) -> np.ndarray:
        return change(value) if slot in (name, name.rpartition(".")[2]) else value

    def load(checkpoint: Checkpoint, **options: Any) -> Session:
        return WrongSlots(engine.load(checkpoint, **options), fault)

    return load


def changed_model(change: Callable[[Any], None]) -> Loader:
    """The NumPy engine, whose model or session has been tampered with."""

    def load(checkpoint: Checkpoint, **options: Any) -> Session:
        session = numpy_engine.load(checkpoint, **options)
        change(session)
        return session

    return load


def plain_native(checkpoint: Checkpoint, **options: Any) -> Session:
    """The right engine, under a loader of somebody's own."""
    return native.load(checkpoint, **options)


def wrong_eps(norm: str, eps: float) -> Loader:
    """One norm adds another epsilon."""

    def change(session: Any) -> None:
        model, right = session.model, session.model.norm

        def computed(name: str, x: np.ndarray) -> np.ndarray:
            if name != norm:
                return np.asarray(right(name, x))
            return np.asarray(model.ops.rmsnorm(x, model.weights[name], eps=eps))

        model.norm = computed

    return changed_model(change)


def dropped_bias(name: str) -> Loader:
    """One bias is not added."""

    def change(session: Any) -> None:
        session.model.weights = {key: value for key, value in session.model.weights.items() if key != name}

    return changed_model(change)


def interleaved_rope(session: Any) -> None:
    """Neighbouring features are turned together, in place of the halves."""
    right = session.model.ops.rope

    def turned(x: np.ndarray, table: Any) -> np.ndarray:
        halves = np.concatenate([x[..., 0::2], x[..., 1::2]], axis=-1)
        y = right(halves, table)
        half = y.shape[-1] // 2
        return np.stack([y[..., :half], y[..., half:]], axis=-1).reshape(x.shape)

    session.model.ops = replace(session.model.ops, rope=turned)


def shifted_positions(shift: int, *, since: int = 0) -> Loader:
    """From a position on, positions are counted wrong."""

    def change(session: Any) -> None:
        tables, right = session._tables, session._tables.rows

        def rows(theta: float | None, start: int, stop: int, *, n_positions: int) -> np.ndarray:
            found = right(theta, start, stop, n_positions=n_positions).copy()
            first = max(start, since)
            if first < stop:
                found[first - start :] = right(theta, first + shift, stop + shift, n_positions=n_positions + shift)
            return found

        tables.rows = rows

    return changed_model(change)


def attention_scaled(factor: float) -> Loader:
    """Scores are scaled by another factor."""

    def change(session: Any) -> None:
        session.model.attention_scale *= factor

    return changed_model(change)


class _ForgetfulCache(KVCache):
    def extend(self, layer: int, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        keys, values = super().extend(layer, k, v)
        return (keys[1:], values[1:]) if self.length else (keys, values)


def forgetful_cache(session: Any) -> None:
    """The cache loses its oldest position: prefill is right, decoding is not."""
    right = session.new_cache

    def new_cache() -> KVCache:
        made = right()
        made.__class__ = _ForgetfulCache
        return made  # type: ignore[no-any-return]

    session.new_cache = new_cache


def zero_head(head: int, *, head_dim: int) -> Callable[[np.ndarray], np.ndarray]:
    """One head gives nothing."""

    def change(value: np.ndarray) -> np.ndarray:
        changed = value.reshape(len(value), -1, head_dim).copy()
        changed[:, head] = 0
        return changed.reshape(value.shape)

    return change


def transposed_heads(n_heads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Heads and features are taken for each other."""

    def change(value: np.ndarray) -> np.ndarray:
        return value.reshape(len(value), n_heads, -1).swapaxes(1, 2).reshape(value.shape)

    return change
