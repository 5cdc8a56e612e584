"""Values and importances on which quantisers might part: by name, from a fixed seed.

values("spikes") -> float32 [rows, columns]; importances(columns) -> {name: float32 [columns] or None}
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ROWS, COLUMNS = 3, 768
HARD_BELOW, HARD_ANY = 110, 206


def _random(seed: int) -> np.random.Generator:
    return np.random.default_rng([7, seed])


def _normal(seed: int = 0, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    return _random(seed).standard_normal((rows, columns))


def _heavy() -> np.ndarray:
    return np.clip(_normal() / np.abs(_normal(1)) ** 1.5, -6e4, 6e4)


def _spikes() -> np.ndarray:
    values = _normal() * 1e-4
    values[np.arange(ROWS), _random(2).integers(0, COLUMNS, ROWS)] = 5 * _normal(3)[:, 0]
    return values


def _zeros_of_both_signs() -> np.ndarray:
    return np.where(_normal() > 0, 0.0, -0.0)


def _partly_zero() -> np.ndarray:
    values = _normal()
    values[:, :300] = 0
    return values


def _of_any_size() -> np.ndarray:
    return _normal() * 10.0 ** _random(4).integers(-12, 4, (ROWS, COLUMNS))


def _rows_of_any_size() -> np.ndarray:
    return _normal(5, 24, 256) * 10.0 ** _random(6).integers(-10, 4, (24, 1))


def _groups_of_any_size() -> np.ndarray:
    return _normal(10, 16, 256) * 10.0 ** np.repeat(_random(11).integers(-20, 3, (16, 16)), 16, axis=1)


def _beside_halves() -> np.ndarray:
    """Whole numbers and a half, and their neighbours, in blocks whose largest is 127: a scale of 1 in Q8_0."""
    halves = np.float32(_random(12).integers(-126, 126, (ROWS, COLUMNS)) + 0.5)
    halves[:, ::5] = 0.5
    values = np.nextafter(halves, np.float32(0) * halves)
    values[:, ::3] = halves[:, ::3]
    values[:, ::32] = 127
    return values


VALUES: dict[str, Callable[[], np.ndarray]] = {
    "normal": _normal,
    "heavy": _heavy,
    "constant": lambda: np.full((2, 512), 0.37),
    "negative constant": lambda: np.full((2, 512), -0.37),
    "zeros": lambda: np.zeros((2, 512)),
    "zeros of both signs": _zeros_of_both_signs,
    "whole numbers": lambda: np.round(3 * _normal()),
    "positive": lambda: np.abs(_normal()),
    "negative": lambda: -np.abs(_normal()) - 3,
    "far above zero": lambda: 1e-3 * _normal() + 5,
    "far below zero": lambda: 1e-3 * _normal() - 5,
    "spikes": _spikes,
    "partly zero": _partly_zero,
    "of any size": _of_any_size,
    "rows of any size": _rows_of_any_size,
    "groups of any size": _groups_of_any_size,
    "beside halves": _beside_halves,
    # seeds at which searches go to their ends: five turns, fits with a negative scale, a least value near the largest
    "hard below zero": lambda: -np.abs(_normal(HARD_BELOW, 48, 256)) - 10 * _random(HARD_BELOW + 1).random((48, 1)),
    "hard of any size": lambda: _normal(HARD_ANY, 48, 256) * 10.0 ** _random(HARD_ANY + 1).integers(-12, 4, (48, 256)),
    "one odd row": lambda: _normal(7, 1, 4864) * 0.05,
    # around the smallest numbers, where 1 / scale overflows, the smallest that counts, F16's subnormals, and its end
    **{f"near 1e{e}": lambda e=e: _normal(8) * 10.0**e for e in (-44, -40, -38, -30, -16, -14, -9, -6, 4)},  # type: ignore[misc]
}


def values(name: str) -> np.ndarray:
    """float32 [rows, columns]; columns are whole blocks of every codec."""
    return VALUES[name]().astype(np.float32)


def _above_zero_in_every_block(weights: np.ndarray) -> np.ndarray:
    empty = np.flatnonzero(~weights.reshape(-1, 32).any(axis=1))
    weights[32 * empty] = 1e-3
    return weights


def importances(columns: int) -> dict[str, np.ndarray | None]:
    """float32 [columns] each; in "sparse" and "few" most are zero, but never a whole block."""
    random = _random(9)
    sparse = random.random(columns) * (random.random(columns) < 0.3) + (np.arange(columns) % 32 == 0) * 1e-3
    made = {
        "all alike": np.ones(columns),
        "random": random.random(columns),
        "heavy": np.exp(4 * random.standard_normal(columns)),
        "sparse": sparse,
        "few": _above_zero_in_every_block(random.random(columns) * (random.random(columns) < 0.15)),
        "of two sizes": np.where(random.random(columns) < 0.1, 1e6, 1e-6),
        "tiny": 1e-30 * random.random(columns),
        "huge": 1e12 * random.random(columns),
    }
    return {"none": None, **{name: weights.astype(np.float32) for name, weights in made.items()}}
