"""Statistics of rows against Python's own, one row at a time."""

from __future__ import annotations

import math
import statistics as by_python

import numpy as np
import pytest

from apr.kernels.statistics import COLUMNS, statistics

RANDOM = np.random.default_rng(3)
ROWS = {
    "normal": RANDOM.standard_normal(63),
    "one value": np.array([-2.5]),
    "zeros": np.zeros(17),
    "huge": np.array([3e38, -3e38, 3e38]),
    "tiny": np.array([1e-45, -1e-45, 3e-39, 0.0]),
    "a large mean": 1e6 + RANDOM.standard_normal(1000),
    "nan and inf": np.array([1.0, np.nan, -np.inf, 2.0, np.inf, np.inf, 4.0]),
}


def expected(row: np.ndarray) -> list[float]:
    finite = [float(x) for x in row if math.isfinite(x)]
    rms = math.sqrt(math.fsum(x * x for x in finite) / len(finite))
    nan, inf = sum(math.isnan(x) for x in row), sum(math.isinf(x) for x in row)
    mean = math.fsum(finite) / len(finite)
    return [len(row), mean, by_python.pstdev(finite), min(finite), max(finite), rms, nan, inf]


@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_the_figures_that_python_computes(name: str) -> None:
    row = ROWS[name].astype(np.float32)
    figures = statistics(row[None, :])
    assert figures.dtype == np.float64 and figures.shape == (1, len(COLUMNS))
    np.testing.assert_allclose(figures[0], expected(row), rtol=1e-9, atol=1e-50)


def test_rows_do_not_mix() -> None:
    x = np.stack([ROWS["nan and inf"], np.arange(7.0)]).astype(np.float32)
    np.testing.assert_array_equal(statistics(x), np.concatenate([statistics(x[:1]), statistics(x[1:])]))


@pytest.mark.parametrize("row", [[np.nan, np.nan], [np.inf, -np.inf], []])
def test_a_row_without_a_finite_value_has_counts_only(row: list[float]) -> None:
    figures = dict(zip(COLUMNS, statistics(np.array([row], dtype=np.float32))[0], strict=True))
    assert figures["count"] == len(row) == figures["nan"] + figures["inf"]
    assert all(math.isnan(figures[name]) for name in ("mean", "std", "min", "max", "rms"))


def test_the_input_is_not_changed() -> None:
    x = ROWS["nan and inf"].astype(np.float32)[None, :]
    before = x.copy()
    statistics(x)
    np.testing.assert_array_equal(x, before)
