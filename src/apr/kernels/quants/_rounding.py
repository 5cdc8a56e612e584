"""Rounding as the quantisers of C and Rust round: halves away from zero."""

from __future__ import annotations

import numpy as np


def round_half_away(values: np.ndarray) -> np.ndarray:
    """float64 integers of the shape of `values`, float32 under 2**52. NumPy's own `round` takes halves to even."""
    # in float64 the sum is exact enough: 0.49999997 + 0.5 stays under 1
    sums = values.astype(np.float64)
    sums += np.copysign(0.5, values)
    np.trunc(sums, out=sums)
    return sums
