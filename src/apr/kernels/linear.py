"""Matrix product of activations and a weight, with an optional bias."""

from __future__ import annotations

import numpy as np


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """y = x Wᵀ + b.

    x:       float32 [n_tokens, in_features]
    weight:  float32 [out_features, in_features]
    bias:    float32 [out_features] or None
    Returns  float32 [n_tokens, out_features]
    """
    y: np.ndarray = x @ weight.T
    return y if bias is None else y + bias
