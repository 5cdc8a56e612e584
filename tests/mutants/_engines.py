"""Engines with one fault, and two that only go another way: sessions over ours, each changed in one place.

`Subject(loader=…)` takes the place of an engine's `load`. A fault in an op is planted in the NumPy forward pass; a
fault that can be said of a slot's value is planted in either engine, by a tap that changes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from apr.engines import native
from apr.engines import numpy as numpy_engine
from apr.engines._base import Rows, Session
from apr.kernels._set import NUMPY
from apr.models._checkpoint import Checkpoint
from apr.models._config import ModelConfig
from apr.models._decoder import Span, Tap, no_tap
from apr.models._kv_cache import KVCache

Loader = Callable[..., Session]
Spoil = Callable[[Any, ModelConfig], None]  # changes a NumpySession in place


class Wrapped:
    """A session that is another one, but for what a subclass changes."""

    def __init__(self, inner: Session) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """As the other."""
        return self.inner.forward(spans, tap=tap, rows=rows)


class OneByOne(Wrapped):
    """Sequences of a batch are computed one after the other."""

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Each by itself, where nobody looks in."""
        if tap is not no_tap:
            return self.inner.forward(spans, tap=tap, rows=rows)
        return np.concatenate([self.inner.forward([span], rows=rows) for span in spans])


class InPieces(Wrapped):
    """A prompt is computed seven tokens at a time."""

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Piece by piece through the cache, where nobody looks in."""
        if tap is not no_tap or len(spans) > 1:
            return self.inner.forward(spans, tap=tap, rows=rows)
        ids, cache = spans[0].token_ids, spans[0].cache
        parts = [self.inner.forward([Span(ids[at : at + 7], cache)], rows=rows) for at in range(0, len(ids), 7)]
        return parts[-1] if rows == "last" else np.concatenate(parts)


def loader(wrap: Callable[[Session], Session], *, engine: str = "native") -> Loader:
    """A `load` that wraps an engine's session."""

    def load(checkpoint: Checkpoint, **options: Any) -> Session:
        module = native if engine == "native" else numpy_engine
        return wrap(module.load(checkpoint, **options))

    return load


def spoiled(spoil: Spoil) -> Loader:
    """A `load` of the NumPy engine, whose session is spoiled when it is made."""

    def load(checkpoint: Checkpoint, **options: Any) -> Session:
        session = numpy_engine.load(checkpoint, **options)
        spoil(session, checkpoint.config)
        return session

    return load


def in_slots(wanted: Callable[[str], bool], change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Session], Session]:
    """Wraps a session so that some slots have other values."""

    class InSlots(Wrapped):
        def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
            def planted(name: str, value: np.ndarray) -> np.ndarray:
                if not wanted(name):
                    return tap(name, value)
                return tap(name, np.ascontiguousarray(change(value.copy()), dtype=np.float32))

            return self.inner.forward(spans, tap=planted, rows=rows)

    return InSlots


# ops


def with_op(**ops: Any) -> Spoil:
    """Other ops in the kernel set, whatever the layer."""

    def spoil(session: Any, config: ModelConfig) -> None:
        del config
        session.model.ops = dataclasses.replace(NUMPY, **ops)

    return spoil


def with_config(**changes: Any) -> Spoil:
    """A forward pass that believes in another configuration than the file's."""

    def spoil(session: Any, config: ModelConfig) -> None:
        session.model.config = dataclasses.replace(config, **changes)

    return spoil


def with_model(**attributes: Any) -> Spoil:
    """A forward pass with other methods; they get the model first."""

    def spoil(session: Any, config: ModelConfig) -> None:
        del config
        session.model.__class__ = type("Faulty", (session.model.__class__,), attributes)

    return spoil


def with_batch(change: Callable[..., Any]) -> Spoil:
    """A forward pass whose attention is asked through `change(attention, layer, q, k, v, **how)`."""

    def spoil(session: Any, config: ModelConfig) -> None:
        del config
        attend = session.model.__class__.attend

        def faulty(self: Any, layer: int, h: np.ndarray, batch: Any, tap: Tap) -> np.ndarray:
            out: np.ndarray = attend(self, layer, h, _Batch(batch, change), tap)
            return out

        session.model.__class__ = type("Faulty", (session.model.__class__,), {"attend": faulty})

    return spoil


class _Batch:
    """A batch whose attention goes through a fault."""

    def __init__(self, inner: Any, change: Callable[..., Any]) -> None:
        self._inner = inner
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def attention(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, **how: Any) -> np.ndarray:
        """Through the fault."""
        out: np.ndarray = self._change(self._inner.attention, layer, q, k, v, **how)
        return out


def rope_in_pairs(x: np.ndarray, table: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Rotates neighbours (the layout of GPT-J) instead of halves."""
    cos, sin = (t[:, None, :] for t in table)
    n = cos.shape[-1]
    out = x.copy()
    out[..., 0 : 2 * n : 2] = x[..., 0 : 2 * n : 2] * cos - x[..., 1 : 2 * n : 2] * sin
    out[..., 1 : 2 * n : 2] = x[..., 1 : 2 * n : 2] * cos + x[..., 0 : 2 * n : 2] * sin
    return out


# positions


def shifted_positions(since: int, by: int) -> Spoil:
    """Positions from `since` on are counted `by` too high."""

    def spoil(session: Any, config: ModelConfig) -> None:
        del config
        session._tables = _Tables(session._tables, lambda at, start: at + by * (at >= since))

    return spoil


def shifted_when_decoding(by: int) -> Spoil:
    """Positions that follow a cache are counted `by` too high."""

    def spoil(session: Any, config: ModelConfig) -> None:
        del config
        session._tables = _Tables(session._tables, lambda at, start: at + by * (start > 0))

    return spoil


class _Tables:
    """Rotary tables that give other rows than those asked for."""

    def __init__(self, inner: Any, moved: Callable[[np.ndarray, int], np.ndarray]) -> None:
        self._inner = inner
        self._moved = moved

    def rows(self, theta: float | None, start: int, stop: int, *, n_positions: int) -> np.ndarray:
        """float32 [stop - start, rotary_dim]"""
        at = self._moved(np.arange(start, stop), start)
        table: np.ndarray = self._inner.rows(theta, 0, int(at.max()) + 1, n_positions=n_positions)
        rows: np.ndarray = table[at]
        return rows


# caches


def with_cache(kind: type[KVCache]) -> Spoil:
    """Sequences that are remembered in another cache."""

    def spoil(session: Any, config: ModelConfig) -> None:
        session.new_cache = lambda: kind(
            num_hidden_layers=config.num_hidden_layers,
            num_key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
        )

    return spoil


class Overwrites(KVCache):
    """A token that follows a cache is written over the last one."""

    def extend(self, layer: int, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One place too early, where there is one."""
        keys, values = super().extend(layer, k, v)
        if self.length:
            keys[self.length - 1], values[self.length - 1] = k[0], v[0]
        return keys, values


class LosesNewest(KVCache):
    """The newest key of a sequence that goes on is left out."""

    def extend(self, layer: int, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The one before stands twice."""
        keys, values = super().extend(layer, k, v)
        if not self.length:
            return keys, values
        keys, values = keys.copy(), values.copy()
        keys[-1], values[-1] = keys[-2], values[-2]
        return keys, values


class ForgetsFirst(KVCache):
    """A sequence that goes on has lost its first position."""

    def extend(self, layer: int, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first key is zero."""
        keys, values = super().extend(layer, k, v)
        if self.length:
            keys[0], values[0] = 0.0, 0.0
        return keys, values


class Coarse(KVCache):
    """What is remembered is rounded to steps of a quarter, as a cache of very few bits would."""

    def extend(self, layer: int, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rounded values, read back when the sequence goes on."""
        keys, values = super().extend(layer, k, v)
        if self.length:
            keys[: self.length] = np.round(keys[: self.length] * 2) / 2
            values[: self.length] = np.round(values[: self.length] * 2) / 2
        return keys, values


class MixesLayers(KVCache):
    """A sequence that goes on reads the values of layer 0 in every layer."""

    def extend(self, layer: int, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keys of the layer, old values of the first."""
        keys, values = super().extend(layer, k, v)
        if self.length and layer:
            values[: self.length] = self._v[0][: self.length]
        return keys, values


class TruncatesLate(KVCache):
    """A cache that is cut back keeps one position too many."""

    def truncate(self, length: int) -> None:
        """One more than asked, if it is there."""
        super().truncate(min(self.length, length + 1))
