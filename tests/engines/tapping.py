"""What every engine with taps is held to: the slots of NumPy's forward pass, and the same answer to the same intervention."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from apr.engines import numpy as numpy_engine
from apr.engines._base import Session
from apr.formats import open_model
from apr.models._checkpoint import Checkpoint
from apr.models._decoder import Span

# as many tokens as query heads: tokens and heads that are mixed up keep their shape, and only the values tell
TOKEN_IDS = np.random.default_rng(7).integers(0, 250, 4)
LONG_IDS = np.random.default_rng(8).integers(0, 250, 40)


def checkpoint(path: Path) -> Checkpoint:
    return Checkpoint(open_model(path))


def numpy_session(path: Path) -> Session:
    return numpy_engine.load(checkpoint(path), threads=1)


def all_rows(session: Session, token_ids: np.ndarray = TOKEN_IDS) -> np.ndarray:
    return session.forward([Span(token_ids, session.new_cache())], rows="all")


def slots(session: Session, token_ids: np.ndarray = TOKEN_IDS) -> dict[str, np.ndarray]:
    """Every slot of a pass, by name; a slot that is shown twice is a mistake."""
    seen: dict[str, np.ndarray] = {}

    def tap(name: str, value: np.ndarray) -> np.ndarray:
        assert name not in seen and value.dtype == np.float32
        seen[name] = value
        return value

    session.forward([Span(token_ids, session.new_cache())], tap=tap, rows="all")
    return seen


def forced(session: Session, slot: str, token_ids: np.ndarray = TOKEN_IDS) -> np.ndarray:
    """Logits of every row when a slot is disturbed by noise that depends on nothing but its name."""

    def tap(name: str, value: np.ndarray) -> np.ndarray:
        if name != slot:
            return value
        noise = np.random.default_rng(zlib.crc32(slot.encode())).standard_normal(value.shape)
        changed: np.ndarray = (value + 0.5 * noise * value.std()).astype(np.float32)
        return changed

    return session.forward([Span(token_ids, session.new_cache())], tap=tap, rows="all")


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, in units of the largest expected value."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())
