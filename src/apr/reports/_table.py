"""Columns of text, as wide as the terminal lets them be; the same facts, aligned and unwrapped, where there is none."""

from __future__ import annotations

import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence

from apr.reports._style import paint

_NARROW = 60  # columns; a table that does not fit a terminal narrower than this is tab-separated
_LEAST = 16  # columns of text that are worth wrapping to
_LEAST_SENTENCE = 24  # columns of a sentence behind its head that are worth wrapping to
_GAP = "  "


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Rows under a header, two spaces apart. Text in a last column that does not fit is wrapped under itself.

    right:  the columns to align to the right (numbers)
    """
    widths = [max(width(row[i]) for row in (header, *rows)) for i in range(len(header))]
    last = len(header) - 1
    before = sum(widths[:last]) + len(_GAP) * last
    columns = terminal_columns()
    room = None
    if columns is not None and before + widths[last] > columns:
        if last not in right and columns - before >= _LEAST:
            room = columns - before
        elif columns < _NARROW:
            return "\n".join("\t".join(row) for row in (header, *rows))
    first, *others = [_row(row, widths, right, room) for row in (header, *rows)]
    return "\n".join([paint(first, "bold"), *others])


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, indented by two; a value that does not fit is wrapped under itself."""
    label = max((width(name) for name, _ in rows), default=0)
    columns = terminal_columns()
    lines = []
    for name, value in rows:
        head = f"  {_pad(name, label)}{_GAP}"
        if columns is not None and columns - len(head) >= _LEAST:
            value = _wrapped(value, columns - len(head), indent=len(head))
        lines.append(paint(head, "dim") + value)
    return "\n".join(lines)


def hanging(head: str, text: str, *, before: int) -> str:
    """A text behind its head, wrapped under itself where the terminal leaves room; before: columns that the head takes."""
    columns = terminal_columns()
    if columns is None or columns - before < _LEAST_SENTENCE:
        return head + text
    return head + _wrapped(text, columns - before, indent=before)


def terminal_columns() -> int | None:
    """The width of the terminal that standard output is; None if it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def width(text: str) -> int:
    """Columns that a text takes on a terminal: two for wide East Asian characters, none for combining marks."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1 for c in text
    )


def size(n_bytes: int) -> str:
    """Bytes for a reader: 98.4 MB, 1.2 GB (powers of ten, as disks and downloads are counted)."""
    if n_bytes < 1000:
        return f"{n_bytes} B"
    value = float(n_bytes)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if round(value, 1) < 1000:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def count(n: int) -> str:
    """A large count for a reader: 134.5M, 1.8B."""
    if n < 1000:
        return str(n)
    value = float(n)
    for unit in ("k", "M"):
        value /= 1000
        if round(value, 1) < 1000:
            return f"{value:.1f}{unit}"
    return f"{value / 1000:.1f}B"


def bar(share: float, *, width: int = 24) -> str:
    """A share of one as a bar of blocks; a share that is not nothing has at least one."""
    return "█" * max(1 if share > 0 else 0, round(share * width))


def _row(row: Sequence[str], widths: Sequence[int], right: Sequence[int], room: int | None) -> str:
    cells = [_pad(cell, widths[i], right=i in right) for i, cell in enumerate(row)]
    if room is not None:
        cells[-1] = _wrapped(row[-1], room, indent=sum(widths[:-1]) + len(_GAP) * (len(row) - 1))
    return _GAP.join(cells).rstrip()


def _pad(cell: str, columns: int, *, right: bool = False) -> str:
    fill = " " * (columns - width(cell))
    return fill + cell if right else cell + fill


def _wrapped(text: str, columns: int, *, indent: int) -> str:
    return f"\n{' ' * indent}".join(textwrap.wrap(text, columns) or [""])
