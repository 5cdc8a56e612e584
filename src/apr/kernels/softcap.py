"""Soft cap: values squeezed into an open interval, the small ones hardly changed."""

from __future__ import annotations

import numpy as np


def softcap(x: np.ndarray, cap: float) -> np.ndarray:
    """cap * tanh(x / cap), float32, any shape. Source: Gemma Team 2024, section 2, "Logit soft-capping"."""
    y: np.ndarray = np.float32(cap) * np.tanh(x / np.float32(cap))
    return y
