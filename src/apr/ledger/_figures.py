"""Figures in a contract, held against their earlier selves: is a bar lower than it was?

A figure in prose has the sense of the words before it (>= 0.999, at most 3); a figure in a field has that of its name
(tolerance, min_cosine). A figure without a sense has changed, and nobody can say which way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Sense = Literal["floor", "ceiling", "none"]
Turn = Literal["weakened", "strengthened", "changed"]

_FIGURE = re.compile(
    r"(?P<sense>>=|<=|=>|≥|≤|>|<|at least|at most|no less than|no more than|not more than|more than|less than|fewer than"
    r"|up to|within|under|below|above|over|minimum(?: of)?|maximum(?: of)?|±)?\s*"
    r"(?<![\w.])(?<![A-Za-z]-)(?P<number>[-+]?(?:\d[\d,_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w-]*[A-Za-z_])",
    re.IGNORECASE,
)
_FLOORS = frozenset(
    {">=", "=>", "≥", ">", "at least", "no less than", "more than", "above", "over", "minimum", "minimum of"}
)
# parts of a field's name
_CEILING_PARTS = frozenset({
    "tolerance", "tol", "atol", "rtol", "epsilon", "eps", "allowance", "slack", "max", "maximum", "most", "limit", "ulp",
    "ulps", "budget", "ceiling", "upper", "noise", "timeout", "drift",
})  # fmt: skip
_FLOOR_PARTS = frozenset({
    "min", "minimum", "least", "floor", "lower", "samples", "iterations", "repeats", "cases", "coverage", "n", "num",
    "count", "bound",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and the side that it bounds."""

    sense: Sense
    value: float


def figures(text: str) -> tuple[Figure, ...]:
    """In the order of a text. Numbers inside names (FALSIFY-001, q4_k) are none."""
    found = []
    for one in _FIGURE.finditer(text):
        said = (one["sense"] or "").lower()
        sense: Sense = "none" if not said else "floor" if said in _FLOORS else "ceiling"
        found.append(Figure(sense, float(re.sub("[,_]", "", one["number"]))))
    return tuple(found)


def turn_of_text(old: str, new: str) -> tuple[Turn, Figure, Figure] | None:
    """How the figures of a text turned: the worst of them; None if all are what they were."""
    before, after = figures(old), figures(new)
    if sorted(before, key=repr) == sorted(after, key=repr):
        return None
    if [one.sense for one in before] != [one.sense for one in after]:
        # words around them changed as well: the bounds alone may still be told apart
        before, after = _bounds(before), _bounds(after)
        if [one.sense for one in before] != [one.sense for one in after] or before == after:
            nothing = Figure("none", float("nan"))
            return "changed", next(iter(before), nothing), next(iter(after), nothing)
    turns = [(turn(b.sense, b.value, a.value), b, a) for b, a in zip(before, after, strict=True) if b != a]
    return min(turns, key=lambda one: ("weakened", "changed", "strengthened").index(one[0]))


def turn(sense: Sense, old: float, new: float) -> Turn:
    """How one figure turned."""
    if sense == "none":
        return "changed"
    return "weakened" if (new < old) == (sense == "floor") else "strengthened"


def sense_of(name: str) -> Sense:
    """What a field of this name bounds."""
    parts = set(re.split(r"[^a-z]+", name.lower()))
    if parts & _CEILING_PARTS:
        return "ceiling"
    return "floor" if parts & _FLOOR_PARTS else "none"


def _bounds(found: tuple[Figure, ...]) -> tuple[Figure, ...]:
    return tuple(one for one in found if one.sense != "none")
