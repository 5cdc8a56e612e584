"""Columns of text: aligned on a terminal, tab-separated where the terminal is too narrow or there is none."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

_NARROW = 60


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Rows under a header, two spaces apart.

    right:  the columns to align to the right (numbers)
    """
    if sys.stdout.isatty() and shutil.get_terminal_size().columns < _NARROW:
        return "\n".join("\t".join(row) for row in (header, *rows))
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def size(n_bytes: int) -> str:
    """Bytes for a reader: 98.4 MB, 1.2 GB (powers of ten, as disks and downloads are counted)."""
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{n_bytes} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def count(n: int) -> str:
    """A large count for a reader: 134.5M, 1.8B."""
    for limit, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if n >= limit:
            return f"{n / limit:.1f}{unit}"
    return str(n)


def bar(share: float, *, width: int = 24) -> str:
    """A share of one as a bar of blocks."""
    return "█" * max(1 if share > 0 else 0, round(share * width))
