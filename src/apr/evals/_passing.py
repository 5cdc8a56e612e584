"""Shares that pass, and how sure one can be of them: pass@k by problem, and 95 % intervals over problems."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from apr.errors import UsageError

Method = Literal["wilson", "bootstrap"]
_Z95 = 1.959963984540054  # of the normal distribution, two-sided
_DRAWS = 4000


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that one of k answers passes, drawn without replacement from n of which c pass: 1 - C(n-c, k) / C(n, k).

    Unbiased for the chance under k fresh answers. Source: Chen et al. 2021, equation 1.
    Raises UsageError for k > n, which nothing is known of.
    """
    if not 1 <= k <= n or not 0 <= c <= n:
        raise UsageError(
            f"pass@{k} of {n} answers of which {c} pass; k is at least 1 and at most the number of answers"
        )
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def wilson(n_passed: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of n independent trials. Source: Wilson 1927."""
    if n < 1:
        return 0.0, 1.0
    share, z2 = n_passed / n, _Z95 * _Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_with_interval(values: Sequence[float], *, seed: int) -> tuple[float, tuple[float, float], Method]:
    """The mean over problems, its 95 % interval, and how that was made.

    values:  one a problem. Wilson's interval if all are 0 or 1, else problems are drawn anew; where drawing cannot move
             the mean, because all are equal, Wilson's again
    """
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    if np.isin(found, (0.0, 1.0)).all():
        return mean, wilson(int(found.sum()), len(found)), "wilson"
    if np.ptp(found) == 0.0:
        return mean, wilson(round(mean * len(found)), len(found)), "wilson"
    drawn = np.random.default_rng(seed).integers(0, len(found), (_DRAWS, len(found)))
    low, high = np.percentile(found[drawn].mean(axis=1), (2.5, 97.5))
    return mean, (float(low), float(high)), "bootstrap"
