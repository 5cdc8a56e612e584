"""Ctrl-C, held back while code runs that would lose it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def held() -> Iterator[None]:
    """An interrupt waits until the block ends.

    For imports of extension modules: what Cython compiled registers its classes with errors ignored, and Ctrl-C is one.
    Blocking the signal does not do: another thread takes it then, and this one is told.
    """
    is_ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not None
    if not is_ours:  # interrupts go to the main thread; or whoever embeds Python handles them
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)
