"""GELU in its tanh form, the gate of GeGLU."""

from __future__ import annotations

import numpy as np

_SQRT_2_OVER_PI = np.float32(0.7978845608028654)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), float32, any shape. Source: Hendrycks and Gimpel 2016; `gelu_pytorch_tanh`."""
    with np.errstate(over="ignore"):  # the cube of a large x is inf, and tanh(inf) is the right 1
        inner = _SQRT_2_OVER_PI * (x + np.float32(0.044715) * x * x * x)
    y: np.ndarray = np.float32(0.5) * x * (np.float32(1.0) + np.tanh(inner))
    return y
