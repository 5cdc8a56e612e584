"""The outside of a contestant's process is tested with its inside."""

from __future__ import annotations

import sys

import pytest

from apr.bench._process import Process
from apr.errors import EngineError


def test_a_process_that_never_listens_is_an_error() -> None:
    said = "deaf: the process ended with status 1: no"
    with (
        Process("deaf", [sys.executable, "-c", "raise SystemExit('no')"]) as deaf,
        pytest.raises(EngineError, match=said),
    ):
        deaf.ask("hello")


def test_it_ends_when_its_input_ends() -> None:
    with Process("waits", [sys.executable, "-c", "import sys; sys.stdin.read()"]) as waits:
        pid = waits.pid
    assert pid > 0 and waits._process.returncode == 0
