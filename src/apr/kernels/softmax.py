"""Softmax and its logarithm over the last axis."""

from __future__ import annotations

import numpy as np


def softmax(x: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, same dtype and shape as `x`; -inf gives 0. Rows must have one finite entry."""
    exponentials = np.exp(x - np.max(x, axis=-1, keepdims=True))
    probabilities: np.ndarray = exponentials / np.sum(exponentials, axis=-1, keepdims=True)
    return probabilities


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Natural logarithms of `softmax`, without its underflow; same dtype and shape as `x`."""
    shifted = x - np.max(x, axis=-1, keepdims=True)
    logs: np.ndarray = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return logs
