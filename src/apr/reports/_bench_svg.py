"""`apr bench` as a picture: decode and prefill by length of the prompt, with least and most, and the memory limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from apr import _atomic
from apr.reports._bench import name_of
from apr.reports.text import visible

if TYPE_CHECKING:
    from pathlib import Path

    from apr.bench._report import BenchReport, SpeedRow
    from apr.bench._rounds import Spread

_WIDTH, _LEFT, _RIGHT = 760, 230, 90
_ROW, _GAP, _TITLE = 22, 14, 34
_COLOURS = ("#2563a8", "#c2701d", "#4a8f3c", "#8a4fa3")  # told apart by most readers who see fewer colours
_INK, _PALE = "#222222", "#888888"


def picture(report: BenchReport) -> str:
    """An SVG document of its own: no script, no style sheet, nothing fetched."""
    engines = list(dict.fromkeys(row.engine for row in report.speeds))
    parts: list[str] = []
    y = float(_TITLE)
    for title, key in (("decode, tok/s", "decode_tok_per_s"), ("prefill, tok/s", "prefill_tok_per_s")):
        y = _panel(parts, report.speeds, engines, title, key, y)
    head = f"{visible(report.model.reference)} on {visible(report.machine.cpu)}, {report.machine.cores} cores"
    foot = "bars: medians; lines: least and most; dashes: what the memory allows, measured beside each round"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 24:g}" viewBox="0 0 {_WIDTH} {y + 24:g}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="{escape(head)}">',
        f'<rect width="{_WIDTH}" height="{y + 24:g}" fill="#ffffff"/>',
        _text(12, 20, head, weight="bold"),
        *parts,
        _text(12, y + 12, foot, colour=_PALE),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def save(report: BenchReport, path: Path) -> None:
    """Write the picture, whole or not at all. Raises UsageError for a folder or a link; OSError."""
    _atomic.write_bytes(path, picture(report).encode("utf-8"))


def _panel(parts: list[str], rows: Sequence[SpeedRow], engines: Sequence[str], title: str, key: str, y: float) -> float:
    """The bars of one figure from `y` down; where they end."""
    if not rows:
        return y
    has_limit = key == "decode_tok_per_s"
    parts.append(_text(12, y + 16, title, weight="bold"))
    y += 26
    most = max(_most(row, key, has_limit) for row in rows)
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    last = None
    for row in sorted(rows, key=lambda r: (r.threads, r.prompt_tokens, engines.index(r.engine))):
        group = row.threads, row.prompt_tokens
        y += _GAP / 2 if last not in (None, group) else 0
        last = group
        parts += _bar(row, getattr(row, key), y, scale, _COLOURS[engines.index(row.engine) % len(_COLOURS)], has_limit)
        y += _ROW
    return y + _GAP


def _bar(row: SpeedRow, spread: Spread, y: float, scale: float, colour: str, has_limit: bool) -> Iterator[str]:
    word = "thread" if row.threads == 1 else "threads"
    label = f"{name_of(row.engine)}, {row.threads} {word}, {row.prompt_tokens} prompt tokens"
    yield _text(_LEFT - 8, y + 14, label, anchor="end")
    yield f'<rect x="{_LEFT}" y="{y + 2:g}" width="{spread.median * scale:.1f}" height="{_ROW - 6}" fill="{colour}"/>'
    middle = y + _ROW / 2 - 1
    yield _line(_LEFT + spread.min * scale, middle, _LEFT + spread.max * scale, middle, _INK)
    end = max(spread.median, spread.max)
    if has_limit and row.limit_tok_per_s is not None:
        at = _LEFT + row.limit_tok_per_s.median * scale
        yield _line(at, y, at, y + _ROW - 2, _INK, dashes="3 2")
        end = max(end, row.limit_tok_per_s.median)
    yield _text(_LEFT + end * scale + 6, y + 14, f"{spread.median:.3g}")


def _most(row: SpeedRow, key: str, has_limit: bool) -> float:
    spread: Spread = getattr(row, key)
    limit = row.limit_tok_per_s.median if has_limit and row.limit_tok_per_s is not None else 0.0
    return max(spread.max, limit)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:g}" x2="{x2:.1f}" y2="{y2:g}" stroke="{colour}" stroke-width="1.5"{dashed}/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", colour: str = _INK) -> str:
    return f'<text x="{x:.1f}" y="{y:g}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}">{escape(text)}</text>'
