"""Progress bars on stderr, for what takes over a second; nothing where stderr is no terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from apr.hub import Progress

_SHOW_AFTER_S = 0.8


def is_plain() -> bool:
    """Whether stderr takes no colours or moving lines."""
    return not sys.stderr.isatty() or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


@contextlib.contextmanager
def downloading() -> Iterator[Progress | None]:
    """What `hub` reports to: a bar a download, or None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    with _bars() as bars:
        yield _Download(bars)


@contextlib.contextmanager
def working(what: str, total_bytes: int) -> Iterator[Callable[[int], None] | None]:
    """A bar that moves by bytes; it shows only if the work takes long enough to wonder."""
    if not sys.stderr.isatty():
        yield None
        return
    import time

    started = time.monotonic()
    with _bars() as bars:
        task = bars.add_task(what, total=total_bytes, visible=False)

        def advance(n_bytes: int) -> None:
            bars.update(task, advance=n_bytes, visible=time.monotonic() - started > _SHOW_AFTER_S)

        yield advance
        bars.update(task, visible=False)


class _Download:
    """A `hub.Progress` over rich."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task("", visible=False)

    def start(self, what: str, total_bytes: int | None) -> None:
        """Begin a bar."""
        self._bars.reset(self._task, description=what, total=total_bytes, visible=True)

    def advance(self, n_bytes: int) -> None:
        """Count bytes that have come."""
        self._bars.update(self._task, advance=n_bytes)

    def finish(self) -> None:
        """Take the bar away."""
        self._bars.update(self._task, visible=False)


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True, no_color=is_plain(), highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)
