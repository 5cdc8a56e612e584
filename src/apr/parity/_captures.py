"""What happens inside a forward pass: kept, compared slot by slot, and forced.

A forced pass gives every op the inputs of another run, because its tap hands back that run's value in the place of each
slot's own. What still differs at a slot is then that op's doing: its local error, of every op in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from apr.engines._base import Session
from apr.errors import EngineError
from apr.models._decoder import Span

# called with a slot's name, what the op gave and what it was to give: both float32 [n_tokens, …]
Look = Callable[[str, np.ndarray, np.ndarray], None]
Change = Callable[[str, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Capture:
    """A pass over `token_ids` from position 0, every slot kept.

    slots:    name -> float32 [n_tokens, size], in the order of computation
    failure:  what the engine said, if it gave up at the end of the pass; the slots are there all the same
    """

    token_ids: tuple[int, ...]
    slots: dict[str, np.ndarray]
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One slot of two runs, over the same positions.

    rows:          float64 [n_tokens], relative L2 of each position: pooled, the first position's giants would hide the rest
    relative_l2:   of the worst position
    cosine:        of all values as one vector
    spread_ratio:  of the sample standard deviations, candidate over reference: a permutation keeps it at 1
    """

    rows: np.ndarray
    relative_l2: float
    cosine: float
    max_abs: float
    snr_db: float
    spread_ratio: float
    n_nonfinite: int


class SlotMismatch(ValueError):
    """Two runs whose slots have other counts or shapes: they did not compute the same thing."""


def capture(session: Session, token_ids: Sequence[int]) -> Capture:
    """Run `token_ids` in one pass and keep every slot of every position."""
    slots: dict[str, np.ndarray] = {}

    def keep(name: str, value: np.ndarray) -> np.ndarray:
        slots[name] = _rows(value).copy()
        return value

    return Capture(tuple(token_ids), slots, _run(session, token_ids, keep))


def compare_slots(session: Session, reference: Capture) -> dict[str, Difference]:
    """Run the same ids untouched; what every slot has become, its inputs included. Raises SlotMismatch."""
    found: dict[str, Difference] = {}

    def look(name: str, value: np.ndarray) -> np.ndarray:
        if name in reference.slots:
            found[name] = difference(_checked(name, value, reference.slots[name]), reference.slots[name])
        return value

    _run(session, reference.token_ids, look)
    return found


def force(session: Session, values: Capture, look: Look, *, change: Change | None = None) -> str | None:
    """Run the same ids with every op on the inputs that `values` holds; `look` sees what each op made of them.

    change:  what the ops get is this of the value (a rounding); nothing if it is None
    Returns  what the engine said, if it gave up. Raises SlotMismatch.
    """

    def put(name: str, value: np.ndarray) -> np.ndarray:
        given = values.slots.get(name)
        if given is None:
            return value
        look(name, _checked(name, value, given), given)
        if change is not None:
            given = change(name, given)
        return given.reshape(value.shape)

    return _run(session, values.token_ids, put)


def force_steps(session: Session, values: Capture, look: Look, *, n_prefill: int) -> str | None:
    """As `force`, the first `n_prefill` positions in one pass and the others one at a time, through the cache.

    `look` is called for the single positions only, whose number is the index of the row in `values`.
    """
    cache = session.new_cache()
    ids = np.asarray(values.token_ids, dtype=np.int64)
    start = 0
    for stop in (n_prefill, *range(n_prefill + 1, len(ids) + 1)):

        def put(name: str, value: np.ndarray, start: int = start, stop: int = stop) -> np.ndarray:
            if name not in values.slots:
                return value
            given = values.slots[name][start:stop]
            if start:
                look(name, _checked(name, value, given), given)
            return given.reshape(value.shape)

        try:
            session.forward([Span(ids[start:stop], cache)], tap=put, rows="all")
        except EngineError as exc:
            return str(exc)
        start = stop
    return None


def force_some(session: Session, token_ids: Sequence[int], values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Logits, float32 [n_tokens, vocab_size], of a pass in which only these slots are put right."""

    def put(name: str, value: np.ndarray) -> np.ndarray:
        given = values.get(name)
        return value if given is None else _checked_shape(name, given, value)

    return session.forward([_span(session, token_ids)], tap=put, rows="all")


def difference(candidate: np.ndarray, reference: np.ndarray) -> Difference:
    """Compare two slots, float32 [n_tokens, size] each; values that are not finite count as nothing but are counted."""
    finite = np.isfinite(candidate)
    c, r = np.where(finite, candidate, 0).astype(np.float64), reference.astype(np.float64)
    error, size = np.linalg.norm(c - r, axis=1), np.linalg.norm(r, axis=1)
    rows = np.where(error > 0, error / np.maximum(size, 1e-300), 0.0)
    rows = np.where(finite.all(axis=1), rows, np.inf)
    whole_error, whole, other = float(np.linalg.norm(error)), float(np.linalg.norm(size)), float(np.linalg.norm(c))
    spread = float(r.std(ddof=1)) if r.size > 1 else 0.0
    return Difference(
        rows=rows,
        relative_l2=float(rows.max()),
        cosine=float((c * r).sum() / (whole * other)) if whole and other else float(whole == other),
        max_abs=float(np.abs(c - r).max()),
        snr_db=20.0 * float(np.log10(whole / whole_error))
        if whole and whole_error
        else np.inf
        if not whole_error
        else -np.inf,
        spread_ratio=float(c.std(ddof=1)) / spread if spread else float("nan"),
        n_nonfinite=int(finite.size - finite.sum()),
    )


def layer_and_name(slot: str) -> tuple[int | None, str]:
    """`layers.3.q_rope` -> (3, "q_rope"); `embed` -> (None, "embed")."""
    if not slot.startswith("layers."):
        return None, slot
    _, layer, name = slot.split(".", 2)
    return int(layer), name


def _run(session: Session, token_ids: Sequence[int], tap: Change) -> str | None:
    try:
        session.forward([_span(session, token_ids)], tap=tap, rows="all")
    except EngineError as exc:
        return str(exc)
    return None


def _span(session: Session, token_ids: Sequence[int]) -> Span:
    return Span(np.asarray(token_ids, dtype=np.int64), session.new_cache())


def _rows(value: np.ndarray) -> np.ndarray:
    return value.reshape(value.shape[0], -1)


def _checked(name: str, value: np.ndarray, expected: np.ndarray) -> np.ndarray:
    rows = _rows(value)
    if rows.shape != expected.shape:
        raise SlotMismatch(
            f"slot {name} has {rows.shape[0]} positions of {rows.shape[1]} values, "
            f"the other run has {expected.shape[0]} of {expected.shape[1]}"
        )
    return rows


def _checked_shape(name: str, given: np.ndarray, value: np.ndarray) -> np.ndarray:
    _checked(name, value, given)
    return given.reshape(value.shape)
