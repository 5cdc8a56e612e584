"""How far a model's own arithmetic moves its margins: the floor that a golden prompt's deciding step must clear.

Our engine gives the same bits for any number of threads and sequences, so running it twice shows nothing. Its rounding is
drawn anew instead: what comes before each product with 8-bit activations is moved within half a step of its block, which
is what another instruction set or kernel may do, and every value of an exact engine by some units in the last place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apr.engines._language_model import Run
from apr.models._decoder import Span, Tap
from apr.parity import _floor
from apr.qa._judged import Judged

# rounding drawn anew goes beyond three root mean squares once in some hundred steps
_TIMES = 3.0
_BLOCK = 32  # values under one scale of our 8-bit activations
_LEVELS = 127.0
# what linear layers take in
_PRODUCT_INPUTS = ("attn_norm", "attn", "ffn_norm", "ffn_swiglu", "final_norm")


@dataclass(frozen=True, slots=True)
class Floor:
    """How much rounding moves the distance between the two most likely tokens.

    rms:  root mean square over the steps, logits; n_steps: how many were looked at
    """

    rms: float
    n_steps: int

    @property
    def needed(self) -> float:
        """What the margin of a deciding step must exceed, logits."""
        return _TIMES * self.rms


def floor(judged: Judged, runs: Sequence[Run], *, seed: int) -> Floor | None:
    """Measured over the steps of some ended runs; None for an engine whose values cannot be moved."""
    if not {"taps", "forcing"} <= judged.model.capabilities:
        return None
    session = judged.language_model.session
    moved: list[float] = []
    for i, run in enumerate(runs):
        ids = [*run.prompt.token_ids, *(step.token_id for step in run.steps[:-1])]
        tap = _redrawn(session.activations, seed + i)
        logits = session.forward([Span(np.array(ids, dtype=np.int64), session.new_cache())], tap=tap, rows="all")
        for step, row in zip(run.steps, logits[len(run.prompt.token_ids) - 1 :], strict=True):
            first, second = (token_id for token_id, _ in step.top[:2])
            moved.append(float(row[first]) - float(row[second]) - step.margin)
    return Floor(float(np.sqrt(np.mean(np.square(moved)))), len(moved)) if moved else None


def _redrawn(activations: str, seed: int) -> Tap:
    """A tap that rounds as this arithmetic does, another way."""
    if activations != "int8":
        return _floor.rounding(seed)
    random = np.random.default_rng(seed)

    def change(name: str, value: np.ndarray) -> np.ndarray:
        if name.rpartition(".")[2] not in _PRODUCT_INPUTS or value.shape[-1] % _BLOCK:
            return value
        rows = value.reshape(value.shape[0], -1)
        if rows.shape[1] % _BLOCK:
            return value
        blocks = rows.reshape(len(rows), -1, _BLOCK)
        step = np.abs(blocks).max(axis=2, keepdims=True) / np.float32(_LEVELS)
        noise = random.random(blocks.shape, dtype=np.float32) - np.float32(0.5)
        changed: np.ndarray = (blocks + step * noise).reshape(value.shape).astype(np.float32)
        return changed

    return change
