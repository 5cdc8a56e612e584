"""Ctrl-C while code runs that would lose it: an import that passes over errors, and the first import of all."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from apr._interrupts import held

EARLY = """
import sys
class Finder:
    def find_spec(self, name, *_):
        if name == "apr.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from apr.__main__ import main
main()
"""


@pytest.fixture(autouse=True)
def plain_handler() -> Iterator[None]:
    """Python's own, whatever other tests have left."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted_import() -> None:
    """Passes over whatever comes, as Cython's registration of classes does."""
    try:
        signal.raise_signal(signal.SIGINT)
        for _ in range(10):  # a handler runs between two instructions
            pass
    except KeyboardInterrupt:
        pass


def test_an_interrupt_is_lost_without_and_waits_with_it() -> None:
    interrupted_import()
    with pytest.raises(KeyboardInterrupt):
        with held():
            interrupted_import()
        pytest.fail("the interrupt was lost")


def test_the_handler_of_before_is_put_back_and_told() -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: told.append(number))
    try:
        ours = signal.getsignal(signal.SIGINT)
        with pytest.raises(ValueError, match="in the block"), held():
            interrupted_import()
            assert not told
            raise ValueError("in the block")
        assert told == [signal.SIGINT] and signal.getsignal(signal.SIGINT) is ours
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_thread_that_gets_no_interrupts_holds_none() -> None:
    with ThreadPoolExecutor(1) as executor, held():
        inside = signal.getsignal(signal.SIGINT)
        executor.submit(lambda: held().__enter__()).result()
        assert signal.getsignal(signal.SIGINT) is inside


def test_an_interrupt_before_there_is_a_command_line_is_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "apr: interrupted\n")
