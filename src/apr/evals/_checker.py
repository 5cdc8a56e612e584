"""The process that holds a problem's tests: calls the model's function in the other process, and says what came of it.

It runs no code of the model. Its verdict carries a secret that only it and the process that started both know.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from apr.evals import _confinement, _values

_MAX_WORDS = 300


class _Failed(BaseException):
    """The code gave no value. A BaseException, so that no test takes it for one of its own."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(kind, words)
        self.kind, self.words = kind, words


def main() -> None:
    """Read the request from standard input, run the tests, write the verdict to standard output."""
    _confinement.die_with_parent()
    request: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    _confinement.limit(cpu_s=request["cpu_s"], memory_bytes=request["memory_bytes"])
    verdict = os.dup(1)
    os.dup2(2, 1)  # a test that prints does not write into the verdict
    sys.set_int_max_str_digits(0)
    calls, replies = int(request["calls"]), int(request["replies"])
    counted = {"n_calls": 0}
    confined: dict[str, str] = {}
    try:
        confined = _receive(replies, "confined")
        _receive(replies, "ready")
        _check(request, _caller(calls, replies, counted))
        kind, words = "passed", ""
    except _Failed as exc:
        kind, words = exc.kind, exc.words
    except AssertionError as exc:
        kind, words = "assertion", _failed_line(exc, request["test"])
    except MemoryError:
        kind, words = "not_plain", "a value too large to compare"
    except Exception as exc:  # noqa: BLE001 - a test that cannot work with the value: the value is wrong
        kind, words = "assertion", f"{type(exc).__name__}: {exc}"[:_MAX_WORDS]
    result = {"secret": request["secret"], "kind": kind, "words": words, "confined": confined, **counted}
    os.write(verdict, json.dumps(result).encode("ascii"))


def _check(request: dict[str, Any], call: Callable[..., Any]) -> None:
    """Run the tests. The prelude defines what they use of the prompt; the function itself is the one in the other process."""
    if "random" in request["test"]:
        import random

        random.seed(0)  # three of HumanEval's tests draw without a seed: the same verdict each time
    namespace: dict[str, Any] = {"__name__": "__test__"}
    exec(compile(request["prelude"], "<prelude>", "exec", dont_inherit=True), namespace)
    namespace[request["entry_point"]] = call
    exec(compile(request["test"], "<test>", "exec", dont_inherit=True), namespace)
    namespace["check"](call)


def _caller(calls: int, replies: int, counted: dict[str, int]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        counted["n_calls"] += 1
        try:
            _values.send(calls, {"arguments": _values.pack(arguments), "named": _values.pack(named)})
        except OSError as exc:
            raise _Failed("ended", "the program ended before the checks did") from exc
        try:
            return _values.unpack(_receive(replies, "value"))
        except _values.NotPlain as exc:
            raise _Failed("not_plain", str(exc)) from exc

    return call


def _receive(replies: int, wanted: str) -> Any:
    try:
        message = _values.receive(replies)
    except EOFError as exc:
        raise _Failed("ended", "the program ended before the checks did") from exc
    except _values.NotPlain as exc:
        raise _Failed("not_plain", str(exc)) from exc
    if isinstance(message, dict) and wanted in message:
        return message[wanted]
    try:
        kind, name, words = message["error"]
        raise _Failed(str(kind), f"{name}: {words}" if name else str(words))
    except (KeyError, TypeError, ValueError) as exc:
        raise _Failed("not_plain", "an answer that is none") from exc


def _failed_line(error: AssertionError, test: str) -> str:
    """The line of the tests that failed."""
    lines, found, trace = test.splitlines(), 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<test>":
            found = trace.tb_lineno
        trace = trace.tb_next
    return lines[found - 1].strip()[:_MAX_WORDS] if 0 < found <= len(lines) else str(error)[:_MAX_WORDS]
