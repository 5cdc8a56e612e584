"""Where in the network an error is: a map of layers by slots, as shapes for the page to draw.

Layers stand from left to right as the computation runs, slots from top to bottom within a layer; what comes before the
first layer and after the last one has a column of its own. Colour is one step a decade.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apr.reports._evidence import number, real, rows
from apr.reports.text import visible

DECADES_BELOW = 5  # steps of colour under the threshold
DECADES_ABOVE = 5  # and over it
FIRST_DECADE = -8  # of the inherited error: what is under 1e-7 has the first colour
N_INHERITED = 9

_WIDTH = 980
_LABELS = 104  # room for the slots' names
_CELL_HEIGHT = 17
_WIDEST = 30
_NARROWEST = 5
_GAP = 10  # between the layers and what stands before and after them
_TOP = 22  # room for the layers' numbers


@dataclass(frozen=True, slots=True)
class Cell:
    """One slot of one layer. `level` is the class of its colour, `title` what a pointer over it shows."""

    x: float
    y: float
    width: float
    height: float
    level: str
    title: str
    is_bad: bool


@dataclass(frozen=True, slots=True)
class Label:
    """A text on a drawing. `anchor`: start, middle or end."""

    x: float
    y: float
    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Swatch:
    """A colour of the legend, and what begins at its left edge."""

    level: str
    says: str


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One map, ready to be drawn in a box of width × height."""

    title: str
    width: float
    height: float
    cells: tuple[Cell, ...]
    labels: tuple[Label, ...]
    legend: tuple[Swatch, ...]
    threshold_after: int | None


def heat_maps(measure: Mapping[str, Any]) -> list[HeatMap]:
    """The maps of what each slot adds by itself, and of what has piled up there; none where every error is zero."""
    slots = rows(measure, "slots")
    floor = real(measure, "floor")
    found = []
    if any(real(row, "local") for row in slots):
        found.append(
            _map("Added here (local error)", slots, lambda row: local_level(row, floor), _local_legend(), DECADES_BELOW)
        )
    if any(real(row, "inherited") for row in slots):
        found.append(_map("Piled up so far (inherited error)", slots, inherited_level, _inherited_legend(), None))
    return found


def local_level(row: Mapping[str, Any], floor: float | None) -> str:
    """The colour of a local error: decades under (b5 … b1) or over (a1 … a5) the slot's own threshold."""
    value, threshold = real(row, "local"), real(row, "threshold") or floor
    if value is None:
        return "none"
    if value == 0:
        return "zero"
    if not math.isfinite(value):
        return f"a{DECADES_ABOVE}"
    if not threshold or not math.isfinite(threshold):
        return "a1" if row.get("is_bad") else "b1"
    decades = math.log10(abs(value) / threshold)
    if decades > 0:
        return f"a{min(DECADES_ABOVE, 1 + int(decades))}"
    return f"b{min(DECADES_BELOW, 1 + int(-decades))}"


def inherited_level(row: Mapping[str, Any]) -> str:
    """The colour of an inherited error: its decade, s0 … s8."""
    value = real(row, "inherited")
    if value is None:
        return "none"
    if value == 0:
        return "zero"
    if not math.isfinite(value):
        return f"s{N_INHERITED - 1}"
    return f"s{min(N_INHERITED - 1, max(0, math.floor(math.log10(abs(value))) - FIRST_DECADE))}"


def thresholds(measure: Mapping[str, Any]) -> str:
    """The thresholds in force, as one figure or a range; empty if none was kept."""
    known = sorted(value for row in rows(measure, "slots") if (value := real(row, "threshold")) is not None)
    if not known:
        return ""
    low, high = number(known[0]), number(known[-1])
    return low if low == high else f"{low} to {high}"


def _map(
    title: str,
    slots: Sequence[Mapping[str, Any]],
    level: Callable[[Mapping[str, Any]], str],
    legend: tuple[Swatch, ...],
    threshold_after: int | None,
) -> HeatMap:
    layers = sorted({row["layer"] for row in slots if isinstance(row.get("layer"), int)})
    names = list(dict.fromkeys(_name(row) for row in slots if isinstance(row.get("layer"), int)))
    outside = list(dict.fromkeys(_name(row) for row in slots if not isinstance(row.get("layer"), int)))
    before, after = [n for n in outside if n == "embed"], [n for n in outside if n != "embed"]
    room = _WIDTH - _LABELS - 2 * _GAP - _WIDEST * len(outside)
    cell_width = max(_NARROWEST, min(_WIDEST, room / max(1, len(layers))))
    x_first = _LABELS + (_WIDEST * len(before) + _GAP if before else 0)
    x_of = {layer: x_first + i * cell_width for i, layer in enumerate(layers)}
    x_after = x_first + cell_width * len(layers) + _GAP
    x_outside: dict[str, float] = {n: _LABELS + i * _WIDEST for i, n in enumerate(before)}
    x_outside |= {n: x_after + i * _WIDEST for i, n in enumerate(after)}
    height = max(_CELL_HEIGHT * len(names), 4 * _CELL_HEIGHT)
    cells = []
    for row in slots:
        name, layer = _name(row), row.get("layer")
        # a cell between its neighbours' hairlines
        if isinstance(layer, int):
            box = (x_of[layer], _TOP + names.index(name) * _CELL_HEIGHT, cell_width - 1, _CELL_HEIGHT - 1.0)
        else:
            box = (x_outside[name], _TOP, _WIDEST - 2.0, height - 1.0)
        cells.append(Cell(*box, level(row), _title(row), bool(row.get("is_bad"))))
    labels = [Label(_LABELS - 8, _TOP + (i + 0.72) * _CELL_HEIGHT, n, "end") for i, n in enumerate(names)]
    every = next(step for step in (1, 2, 4, 5, 8, 10, 20, 50, 1000) if step * cell_width >= 20)
    labels += [Label(x_of[n] + cell_width / 2, _TOP - 7, str(n), "middle") for n in layers if n % every == 0]
    drawn_width = x_after + _WIDEST * len(after) if after else x_after - _GAP
    outside_labels = [Label(x + _WIDEST / 2 - 1, _TOP + height / 2, n, "turned") for n, x in x_outside.items()]
    return HeatMap(
        title, drawn_width + 2, _TOP + height + 4, tuple(cells), (*labels, *outside_labels), legend, threshold_after
    )  # fmt: skip


def _name(row: Mapping[str, Any]) -> str:
    return visible(str(row.get("name") or str(row.get("slot", "")).rpartition(".")[2]))


def _title(row: Mapping[str, Any]) -> str:
    said = [visible(str(row.get("slot", ""))), f"local {number(row.get('local'))}"]
    for key, word in (
        ("threshold", "threshold"),
        ("inherited", "inherited"),
        ("cosine", "cosine"),
        ("max_abs", "max abs"),
        ("snr_db", "SNR dB"),
        ("spread_ratio", "spread ratio"),
    ):
        if row.get(key) is not None:
            said.append(f"{word} {number(row[key])}")
    return " · ".join(said)


def _local_legend() -> tuple[Swatch, ...]:
    below = [Swatch(f"b{i}", f"10^-{i}") for i in range(DECADES_BELOW, 0, -1)]
    above = [Swatch(f"a{i}", f"10^{i - 1}") for i in range(1, DECADES_ABOVE + 1)]
    return (*below, *above)


def _inherited_legend() -> tuple[Swatch, ...]:
    return tuple(Swatch(f"s{i}", f"10^{i + FIRST_DECADE}") for i in range(N_INHERITED))
