"""What the tests of traces share: a tiny model, a prompt of seven tokens, and the values that an ordinary tap sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tiny
from apr.engines._subject import Subject
from apr.models._decoder import Span

PROMPT = "a dozen"  # bytes of the tiny tokenizer, of which "en" is one token
N_POSITIONS = 6


def model(folder: Path, **planted: np.ndarray) -> Path:
    """A tiny llama, with some tensors replaced."""
    return tiny.write(folder, "safetensors", weights=tiny.tensors(tiny.config()) | planted)


def seen_by_a_tap(path: Path, token_ids: tuple[int, ...], *, engine: str = "native") -> dict[str, np.ndarray]:
    """Slot -> float32 [positions, ...], from the session itself."""
    values: dict[str, np.ndarray] = {}

    def tap(name: str, value: np.ndarray) -> np.ndarray:
        values[name] = np.array(value)
        return value

    with Subject(path, engine) as subject:
        span = Span(np.asarray(token_ids, dtype=np.int64), subject.session.new_cache())
        subject.session.forward([span], tap=tap, rows="all")
    return values
