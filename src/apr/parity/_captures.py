"""What happens inside a forward pass: kept, compared slot by slot, and forced.

A forced pass gives every op the inputs of another run, because its tap hands back that run's value in the place of each
slot's own. What still differs at a slot is then that op's doing: its local error, of every op in one pass.
"""

from __future__ import annotations

import math
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
    n_nonfinite = int(finite.size - finite.sum())
    c, r = candidate.astype(np.float64), reference.astype(np.float64)
    if n_nonfinite:
        c[~finite] = 0.0
    error, size = _squares(c - r), _squares(r)
    rows = np.sqrt(error / np.maximum(size, 1e-300))
    if n_nonfinite:
        rows = np.where(finite.all(axis=1), rows, np.inf)
    lost, whole, other = float(error.sum()), float(size.sum()), float(_squares(c).sum())
    spread = _spread(r, whole)
    return Difference(
        rows=rows,
        relative_l2=float(rows.max()),
        cosine=float(np.einsum("ij,ij->", c, r)) / math.sqrt(whole * other)
        if whole and other
        else float(whole == other),
        max_abs=float(np.abs(c - r).max()),
        snr_db=10.0 * math.log10(whole / lost) if whole and lost else math.inf if not lost else -math.inf,
        spread_ratio=_spread(c, other) / spread if spread else math.nan,
        n_nonfinite=n_nonfinite,
    )


def row_error(candidate: np.ndarray, reference: np.ndarray) -> float:
    """Relative L2 of the worst position, as in `Difference`; infinite where a value is not finite."""
    error, size = _squares(candidate - reference), _squares(reference)
    worst = float(np.sqrt(error / np.maximum(size, np.float32(1e-37))).max())
    return worst if math.isfinite(worst) else math.inf


def _squares(x: np.ndarray) -> np.ndarray:
    """The sum of squares of each row, without the threads of a BLAS."""
    sums: np.ndarray = np.einsum("ij,ij->i", x, x)
    return sums


def _spread(x: np.ndarray, squares: float) -> float:
    """The sample standard deviation of all values, given the sum of their squares."""
    n = x.size
    return math.sqrt(max(squares - n * float(x.mean()) ** 2, 0.0) / (n - 1)) if n > 1 else 0.0


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
