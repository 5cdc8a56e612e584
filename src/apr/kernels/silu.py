"""SiLU, the gate of SwiGLU."""

from __future__ import annotations

import numpy as np


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x), float32, any shape. Source: Elfwing et al. 2017; Shazeer 2020 for its use as a gate."""
    with np.errstate(over="ignore"):  # exp(-x) is inf for large negative x, and x / inf is the right 0
        y: np.ndarray = x / (np.float32(1.0) + np.exp(-x))
    return y
