"""Progress bars on stderr, for what takes over a second; nothing where stderr is no terminal.

The drawing library is loaded when there is something to draw: a command that is over in a blink never waits for it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from apr.hub import Progress

Verbosity = Literal["normal", "quiet"]

_SHOW_AFTER_S = 0.8
_NARROW = 60  # columns under which a bar shows no bytes and no rate
_LONGEST_NAME = 28


@contextlib.contextmanager
def downloading(*, verbosity: Verbosity = "normal") -> Iterator[Progress | None]:
    """What `hub` reports to: a bar a download, or None where nobody would see it."""
    if not _is_shown(verbosity):
        yield None
        return
    with _Bar() as bar:
        yield bar


@contextlib.contextmanager
def working(
    what: str, total_bytes: Callable[[], int], *, verbosity: Verbosity = "normal"
) -> Iterator[Callable[[int], None] | None]:
    """A bar that moves by bytes; it shows only if the work takes long enough to wonder.

    total_bytes:  asked only when the bar is about to show
    """
    if not _is_shown(verbosity):
        yield None
        return
    deadline = time.monotonic() + _SHOW_AFTER_S
    done, is_over = 0, False
    lock = threading.Lock()  # weights are decoded by several threads, and each of them calls
    with _Bar() as bar:

        def advance(n_bytes: int) -> None:
            nonlocal done
            with lock:
                done += n_bytes
                if is_over:  # work that goes on in the background must not draw over the results
                    return
                if bar.is_drawn:
                    bar.advance(n_bytes)
                elif time.monotonic() > deadline:
                    bar.start(what, total_bytes())
                    bar.advance(done)

        try:
            yield advance
        finally:
            with lock:
                is_over = True


class _Bar:
    """A `hub.Progress`: one bar, drawn from its first `start` on, gone at the end. A dumb terminal gets a line instead."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self.is_drawn = False

    def start(self, what: str, total_bytes: int | None) -> None:
        """Begin a bar, or begin it anew."""
        from apr.reports.text import visible

        self.is_drawn = True
        name = visible(what)
        if os.environ.get("TERM") == "dumb":
            print(f"apr: {name} …", file=sys.stderr)  # noqa: T201 - the terminal can do no more than lines
            return
        if len(name) > _LONGEST_NAME:
            name = f"{name[: _LONGEST_NAME - 1]}…"
        if self._bars is None:
            self._bars = _bars()
            self._task = self._bars.add_task(name, total=total_bytes)
            self._bars.start()
        else:
            self._bars.reset(self._task, description=name, total=total_bytes, visible=True)

    def advance(self, n_bytes: int) -> None:
        """Count bytes that are done."""
        if self._bars is not None:
            self._bars.update(self._task, advance=n_bytes)

    def finish(self) -> None:
        """Hide the bar until the next start."""
        if self._bars is not None:
            self._bars.update(self._task, visible=False)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars is not None:
            self.finish()
            self._bars.stop()


def _is_shown(verbosity: Verbosity) -> bool:
    return verbosity == "normal" and sys.stderr.isatty()


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from apr.reports._style import is_coloured

    console = Console(stderr=True, no_color=not is_coloured(sys.stderr), highlight=False)
    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False)]
    if shutil.get_terminal_size().columns < _NARROW:
        columns.append(TaskProgressColumn())
    else:
        columns += [BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    return Progress(*columns, console=console, transient=True)
