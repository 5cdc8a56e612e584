"""Margins, errors and divergences as shapes for the page to draw: strips of tokens, a scatter, a plot by regime."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apr.reports._evidence import marked, number, real, regimes, rows
from apr.reports._html_maps import Label
from apr.reports.text import visible

_POINTS = 3000  # that are no flips; of more, every n-th is drawn
_TOKENS = 600  # of one strip
_SCATTER = (520.0, 360.0)
_KL_ROW = 30.0
_KL_LEFT = 110.0
_KL_WIDTH = 720.0
_BAR = 120.0


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a strip, coloured by how much of its margin the error took: m0 (little) … m4 (all of it)."""

    text: str
    level: str
    title: str
    is_flip: bool
    ends_line: bool


@dataclass(frozen=True, slots=True)
class Strip:
    """The tokens of one probe, in order; `n_more` are not shown."""

    title: str
    tokens: tuple[Token, ...]
    n_flips: int
    n_more: int


@dataclass(frozen=True, slots=True)
class Point:
    """A position on the scatter."""

    x: float
    y: float
    is_flip: bool
    title: str


@dataclass(frozen=True, slots=True)
class Scatter:
    """Margin to the right, error upwards, both in decades. Above the line from corner to corner the arg-max can flip."""

    width: float
    height: float
    points: tuple[Point, ...]
    labels: tuple[Label, ...]
    grid: tuple[tuple[float, float, float, float], ...]
    diagonal: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class KlRow:
    """One regime: a line from the median to the 99th percentile, a bar over the mean's interval, a dot at the mean."""

    name: str
    y: float
    line: tuple[float, float] | None
    bar: tuple[float, float] | None
    dot: float | None
    title: str


@dataclass(frozen=True, slots=True)
class KlPlot:
    """Divergence by regime, in decades of nats. `floor`: where the reference's distance from itself stands."""

    width: float
    height: float
    rows: tuple[KlRow, ...]
    labels: tuple[Label, ...]
    grid: tuple[float, ...]
    floor: float | None


@dataclass(frozen=True, slots=True)
class Band:
    """Positions of one range of margins. Bars are lengths on a shared scale; `tick` is the prediction."""

    margin: str
    n: str
    flips: str
    predicted: str
    bar: float
    tick: float
    is_more: bool


def strips(measure: Mapping[str, Any]) -> list[Strip]:
    """Every probe's tokens, coloured by error against margin."""
    return [_strip(row) for row in rows(measure, "strips")]


def scatter(measure: Mapping[str, Any]) -> Scatter | None:
    """Every position of every strip; None if no position has both figures."""
    known = [
        (margin, error, flip, title)
        for row in rows(measure, "strips")
        for margin, error, flip, title in _positions(row)
        if margin is not None and error is not None and math.isfinite(margin) and math.isfinite(error)
    ]
    if not known:
        return None
    low, high = _decades(value for margin, error, _, _ in known for value in (margin, error))
    width, height = _SCATTER
    left, bottom = 66.0, height - 40.0

    def x(value: float) -> float:
        return left + (width - left - 10) * _share(value, low, high)

    def y(value: float) -> float:
        return bottom - (bottom - 10) * _share(value, low, high)

    calm = [p for p in known if not p[2]]
    kept = calm[:: math.ceil(len(calm) / _POINTS)] if calm else []
    points = [
        Point(x(margin), y(error), flip, title) for margin, error, flip, title in [*kept, *(p for p in known if p[2])]
    ]
    ticks = [10.0**n for n in range(low, high + 1)]
    grid = [(x(t), 10.0, x(t), bottom) for t in ticks] + [(left, y(t), width - 10, y(t)) for t in ticks]
    labels = [Label(x(t), bottom + 16, _power(t), "middle") for t in ticks]
    labels += [Label(left - 6, y(t) + 4, _power(t), "end") for t in ticks]
    labels += [
        Label((left + width) / 2, height - 4, "margin of the reference, z₁ − z₂", "middle"),
        Label(10, bottom / 2, "error of the candidate", "turned"),
    ]
    return Scatter(
        width, height, tuple(points), tuple(labels), tuple(grid), (x(ticks[0]), y(ticks[0]), x(ticks[-1]), y(ticks[-1]))
    )


def kl_plot(measure: Mapping[str, Any]) -> KlPlot | None:
    """Divergence by regime; None if nothing was measured, or nothing is above zero."""
    named = regimes(measure)
    floor = real(measure, "floor")
    keys = ("kl_mean", "kl_median", "kl_p99")
    values = [value for _, row in named for key in keys if (value := real(row, key))]
    values = [value for value in [*values, floor or 0.0] if value > 0 and math.isfinite(value)]
    if not named or not values:
        return None
    low, high = _decades(values, most=18)  # a double's own rounding is 16 decades under one

    def x(value: float) -> float:
        return _KL_LEFT + (_KL_WIDTH - _KL_LEFT - 14) * _share(value, low, high)

    def span(a: float | None, b: float | None) -> tuple[float, float] | None:
        if a is None or b is None or not (math.isfinite(a) and math.isfinite(b)):
            return None
        return x(a), x(b)

    drawn = []
    for i, (name, row) in enumerate(named):
        ends = row.get("kl_interval")
        both = (
            (float(ends[0]), float(ends[1]))
            if isinstance(ends, Sequence) and len(ends) == 2 and None not in ends
            else (None, None)
        )
        mean = real(row, "kl_mean")
        drawn.append(
            KlRow(
                name=visible(name),
                y=_KL_ROW * (i + 0.7),
                line=span(real(row, "kl_median"), real(row, "kl_p99")),
                bar=span(*both),
                dot=x(mean) if mean is not None and math.isfinite(mean) else None,
                title=f"{visible(name)}: mean {number(mean)}, median {number(row.get('kl_median'))}, 99 % {number(row.get('kl_p99'))}",
            )
        )
    bottom = _KL_ROW * (len(named) + 0.4)
    step = max(1, math.ceil((high - low) / 10))
    ticks = [10.0**n for n in range(low, high + 1, step)]
    labels = [Label(x(t), bottom + 16, _power(t), "middle") for t in ticks]
    labels += [Label(_KL_LEFT - 10, row.y + 4, row.name, "end") for row in drawn]
    at_floor = x(floor) if floor is not None and floor > 0 and math.isfinite(floor) else None
    return KlPlot(_KL_WIDTH, bottom + 22, tuple(drawn), tuple(labels), tuple(x(t) for t in ticks), at_floor)


def bands(measure: Mapping[str, Any]) -> list[Band]:
    """The flips observed and predicted, by margin."""
    found = rows(measure, "bands")
    most = max((max(real(row, "flips") or 0.0, _ends(row.get("predicted"))[1]) for row in found), default=0.0) or 1.0
    made = []
    for row in found:
        low, high = _ends(row.get("predicted"))
        flips = real(row, "flips") or 0.0
        predicted = number(low) if low == high else f"{number(low)} to {number(high)}"
        upper = row.get("to")
        open_end = upper is None or (isinstance(upper, float) and math.isinf(upper))
        margin = f"{number(row.get('from'))} and more" if open_end else f"{number(row.get('from'))} to {number(upper)}"
        made.append(
            Band(
                margin,
                number(row.get("n")),
                number(row.get("flips")),
                predicted if row.get("predicted") is not None else "–",
                _BAR * flips / most,
                _BAR * high / most,
                # counts scatter by their root: two of those over the prediction is what an eye should stop at
                row.get("predicted") is not None and flips > high + 2 * math.sqrt(max(1.0, high)),
            )
        )
    return made


def _strip(row: Mapping[str, Any]) -> Strip:
    texts = [str(text) for text in row.get("tokens") or ()]
    positions = _positions(row)
    tokens = tuple(
        Token(marked(text) or "∅", _level(margin, error, flip), title, flip, text.endswith("\n"))
        for text, (margin, error, flip, title) in list(zip(texts, positions, strict=False))[:_TOKENS]
    )
    name = " · ".join(visible(str(row[key])) for key in ("regime", "probe") if row.get(key) is not None)
    return Strip(name, tokens, sum(flip for _, _, flip, _ in positions), max(0, len(texts) - _TOKENS))


def _positions(row: Mapping[str, Any]) -> list[tuple[float | None, float | None, bool, str]]:
    texts = row.get("tokens") or ()
    columns = {key: row.get(key) or () for key in ("margin", "error", "kl", "flip")}
    found = []
    for i in range(len(texts)):
        margin, error, kl, flip = (column[i] if i < len(column) else None for column in columns.values())
        title = (
            f"position {i}: {marked(str(texts[i]))} · margin {number(margin)} · error {number(error)} · KL {number(kl)}"
        )
        found.append((_float(margin), _float(error), bool(flip), title + (" · flips" if flip else "")))
    return found


def _level(margin: float | None, error: float | None, is_flip: bool) -> str:
    if is_flip:
        return "flip"
    if margin is None or error is None:
        return "none"
    if not math.isfinite(error):
        return "m4"
    share = error / margin if margin > 0 else math.inf
    return f"m{sum(share >= limit for limit in (0.1, 0.25, 0.5, 1.0))}"


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _ends(value: object) -> tuple[float, float]:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        return float(value[0] or 0.0), float(value[1] or 0.0)
    return (_float(value) or 0.0,) * 2


def _decades(values: Iterable[float], *, most: int = 12) -> tuple[int, int]:
    """Whole decades around what is above zero, the upper ones if they are too many; the rest stands at the lower edge."""
    known = [math.log10(value) for value in values if value > 0]
    if not known:
        return -3, 1
    low, high = math.floor(min(known)), math.ceil(max(known))
    low = max(low, high - most)
    return low, max(high, low + 1)


def _share(value: float, low: int, high: int) -> float:
    return min(1.0, max(0.0, (math.log10(value) - low) / (high - low))) if value > 0 else 0.0


def _power(value: float) -> str:
    exponent = round(math.log10(value))
    return f"{value:g}" if -3 <= exponent <= 3 else f"1e{exponent}"
