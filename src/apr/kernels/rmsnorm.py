"""Root-mean-square normalisation."""

from __future__ import annotations

import numpy as np


def rmsnorm(x: np.ndarray, weight: np.ndarray, *, eps: float) -> np.ndarray:
    """Scale each row to a root mean square of one, then by `weight`.

    x:       float32 [..., size]
    weight:  float32 [size]: the factor itself (a `1 + w` convention is undone when the model is loaded)
    eps:     added to the mean square, inside the root
    Source   Zhang and Sennrich 2019; as in transformers `LlamaRMSNorm`.
    """
    mean_square = np.mean(np.square(x), axis=-1, keepdims=True)
    scaled: np.ndarray = x * (np.float32(1.0) / np.sqrt(mean_square + np.float32(eps))) * weight
    return scaled
