"""A few figures of each row of activations, enough to see where a run goes wrong without keeping the values."""

from __future__ import annotations

import numpy as np

COLUMNS = ("count", "mean", "std", "min", "max", "rms", "nan", "inf")


def statistics(x: np.ndarray) -> np.ndarray:
    """float64 [rows, 8], of x, float32 [rows, n]: `COLUMNS` of each row.

    count is n; nan and inf count such values. The figures between are over the finite values, in float64, and NaN if there
    are none; std divides by their number.
    """
    values = x.astype(np.float64)
    is_finite = np.isfinite(values)
    n_finite = is_finite.sum(axis=1)
    values[~is_finite] = 0.0
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of a row without a finite value
        mean = values.sum(axis=1) / n_finite
        deviations = np.where(is_finite, values - mean[:, None], 0.0)
        std = np.sqrt(np.square(deviations).sum(axis=1) / n_finite)
        rms = np.sqrt(np.square(values).sum(axis=1) / n_finite)
    least = np.min(values, axis=1, where=is_finite, initial=np.inf)
    most = np.max(values, axis=1, where=is_finite, initial=-np.inf)
    least[n_finite == 0] = most[n_finite == 0] = np.nan
    counts = np.full(len(x), x.shape[1]), np.isnan(x).sum(axis=1), np.isinf(x).sum(axis=1)
    return np.stack([counts[0], mean, std, least, most, rms, counts[1], counts[2]], axis=1).astype(np.float64)
