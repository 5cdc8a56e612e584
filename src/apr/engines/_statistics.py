"""The tap that keeps a few figures of every row of every slot, and none of the values."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from apr.kernels.statistics import statistics


class Statistics:
    """Give it as `tap`; afterwards `slots()` has what it saw. One object may see several passes: rows add up.

    A session that can compute the figures where the values are calls `add`, and does not hand it the values.
    """

    def __init__(self) -> None:
        self._rows: defaultdict[str, list[np.ndarray]] = defaultdict(list)

    def __call__(self, name: str, value: np.ndarray) -> np.ndarray:
        self.add(name, statistics(value.reshape(value.shape[0], -1)))
        return value

    def add(self, name: str, rows: np.ndarray) -> None:
        """Note the figures of a slot's next rows, float64 [rows, 8]."""
        self._rows[name].append(rows)

    def slots(self) -> dict[str, np.ndarray]:
        """Slot name -> float64 [rows, 8], the columns of `kernels/statistics.py`, in the order of the pass.

        A row is a position, those of all sequences one after the other; after `rows="last"` the last slots have one row
        a sequence.
        """
        return {name: np.concatenate(rows) for name, rows in self._rows.items()}
