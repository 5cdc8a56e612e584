"""A contestant's side of its process: one JSON request a line on stdin, one JSON answer a line on stdout.

It may run in an interpreter that has nothing of ours, so it imports the standard library alone. What a native library
prints goes to stderr: the pipe of the answers is kept apart.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def serve(contestant: object) -> None:
    """Answer each request {"do": METHOD, …} by calling the method, until `quit` or the end of the input.

    An answer has what the method returned and `at`, seconds on the machine's monotonic clock; or `error` and its `type`.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    imported = time.monotonic()
    for line in sys.stdin:
        request = json.loads(line)
        name = request.pop("do")
        if name == "quit":
            return
        try:
            answer = {"imported": imported, **memory()} if name == "hello" else getattr(contestant, name)(**request)
        except Exception as error:  # noqa: BLE001  the contest goes on without a contestant that fails
            answer = {"error": str(error), "type": type(error).__name__}
        print(json.dumps({**answer, "at": time.monotonic()}), file=answers)


def memory() -> dict[str, int]:
    """Bytes of this process: the most that was resident since it began, and what is now, by kind.

    Not `getrusage`: on Linux its maximum begins with what the parent held when it started this process.
    """
    kinds = {"VmHWM": "peak_bytes", "VmRSS": "resident_bytes", "RssAnon": "anonymous_bytes", "RssFile": "file_bytes"}
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return {kinds[words[0][:-1]]: int(words[1]) * 1024 for words in lines if words[0][:-1] in kinds}
