"""A contestant in a process of its own: answers, errors with their class, last words, memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from apr.bench import _protocol
from apr.bench._process import Process
from apr.errors import EngineError, UnsupportedError, UsageError

CONTESTANT = """
import json, os, sys
sys.path[:] = json.loads(sys.argv[1])
from apr.bench import _protocol
from apr.errors import UnsupportedError

class Odd:
    def add(self, a, b): return {"sum": a + b}
    def noisy(self): print("to stdout, as a library does"); os.write(1, b"and past Python"); return {"ok": True}
    def refuse(self): raise UnsupportedError("not here", known=["this"])
    def crash(self): raise ZeroDivisionError("by nothing")
    def die(self): print("last words", file=sys.stderr, flush=True); os._exit(7)
    def grow(self): self.held = bytearray(64 << 20); return {}

_protocol.serve(Odd())
"""


@pytest.fixture
def odd() -> Process:
    return Process("odd", [sys.executable, "-c", CONTESTANT, json.dumps(sys.path)])


def test_a_request_is_answered_with_the_time(odd: Process) -> None:
    with odd:
        answer = odd.ask("add", a=2, b=3)
        assert answer["sum"] == 5 and answer["at"] > odd.started
        assert odd.ask("hello")["imported"] > odd.started


def test_what_a_library_prints_is_no_answer(odd: Process) -> None:
    with odd:
        assert odd.ask("noisy")["ok"] and odd.ask("add", a=1, b=1)["sum"] == 2


def test_an_error_of_ours_keeps_its_class_and_another_becomes_an_engine_error(odd: Process) -> None:
    with odd:
        with pytest.raises(UnsupportedError, match="not here; known: this") as caught:
            odd.ask("refuse")
        assert (caught.value.exit_code, caught.value.code) == (2, "unsupported-error")
        with pytest.raises(EngineError, match="odd: ZeroDivisionError: by nothing"):
            odd.ask("crash")
        assert odd.ask("add", a=1, b=1)["sum"] == 2  # it goes on


def test_a_process_that_dies_leaves_its_last_words(odd: Process) -> None:
    with odd, pytest.raises(EngineError, match="ended with status 7: last words"):
        odd.ask("die")


def test_memory_is_this_processes_own_high_water_mark(odd: Process) -> None:
    ballast = bytearray(256 << 20)  # getrusage would begin with what the parent holds
    ballast[:: 1 << 12] = b"x" * len(ballast[:: 1 << 12])
    with Process("second", [sys.executable, "-c", CONTESTANT, json.dumps(sys.path)]) as second:
        before = second.ask("hello")["peak_bytes"]
        second.ask("grow")
        after = second.ask("hello")["peak_bytes"]
    odd.close()
    assert before < 128 << 20 and after - before >= 60 << 20


def test_the_protocol_needs_nothing_but_python() -> None:
    text = Path(_protocol.__file__).read_text(encoding="utf-8")
    assert "apr" not in [
        line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import", "from"))
    ]


def test_usage_errors_are_of_the_tree_too() -> None:
    from apr.bench._process import _raised

    assert isinstance(_raised("x", "UsageError", "wrong"), UsageError)
    assert isinstance(_raised("x", "Path", "no error at all"), EngineError)
