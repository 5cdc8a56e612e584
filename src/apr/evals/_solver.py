"""The process that holds a model's code: confined, then told calls, answering with plain data. It never sees a test.

Started by `_sandbox`; speaks with `_checker` over two pipes. It knows no secret: what it can do at worst is to answer
wrongly, or not at all.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from apr.evals import _confinement, _values

_MAX_WORDS = 300  # characters of an error's message that are kept


def main() -> None:
    """Read the request from standard input, confine this process, run the code, answer calls until there are no more."""
    _confinement.die_with_parent()
    request: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    calls, replies = int(request["calls"]), int(request["replies"])
    with open(os.devnull) as nothing:  # noqa: PTH123 - pathlib is slow to import
        os.dup2(nothing.fileno(), 0)
    sys.set_int_max_str_digits(0)  # as on the other side: a whole number of any length is plain data
    if "random" in request["source"]:
        import random

        random.seed(0)  # the same verdict each time
    held = _confinement.confine(
        cpu_s=request["cpu_s"], memory_bytes=request["memory_bytes"], layers=tuple(request["layers"])
    )
    _values.send(replies, {"confined": held})
    _forget_ourselves()
    namespace: dict[str, Any] = {"__name__": "__solution__"}
    try:
        # not as this module is compiled: annotations are evaluated, and a name that was not imported is missed
        exec(compile(request["source"], "<solution>", "exec", dont_inherit=True), namespace)
        function = namespace.get(request["entry_point"])
        ready = {"ready": True} if callable(function) else {"error": ["no_entry_point", "", request["entry_point"]]}
    except BaseException as exc:  # noqa: BLE001 - SystemExit too: whatever the code does is its answer
        kind = "syntax" if isinstance(exc, SyntaxError) else "exception"
        ready = {"error": [kind, type(exc).__name__, _words(exc)]}
    _values.send(replies, ready)
    while "ready" in ready:
        _values.send(replies, _answer(function, _values.receive(calls)))


def _answer(function: Any, call: dict[str, Any]) -> dict[str, Any]:
    try:
        arguments, named = _values.unpack(call["arguments"]), _values.unpack(call["named"])
        value = function(*arguments, **named)
    except BaseException as exc:  # noqa: BLE001 - as above
        return {"error": ["exception", type(exc).__name__, _words(exc)]}
    try:
        return {"value": _values.pack(value)}
    except (TypeError, ValueError, RecursionError, MemoryError) as exc:
        return {"error": ["not_plain", type(exc).__name__, _words(exc)]}


def _words(error: BaseException) -> str:
    try:
        return str(error)[:_MAX_WORDS]
    except BaseException:  # noqa: BLE001 - an exception of the code's own making may fail at this too
        return ""


def _forget_ourselves() -> None:
    """Leave the code a plain interpreter: no folder of ours to import from."""
    sys.path[:] = [path for path in sys.path if not os.path.exists(os.path.join(path, "apr", "evals"))]  # noqa: PTH110, PTH118
    sys.argv[:] = [""]
