"""A contestant in a process of its own, seen from outside. Every request waits for its answer (`_protocol`)."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from apr import errors
from apr.errors import AprError, EngineError

_LAST_WORDS = 2000  # bytes of stderr that are read when a process dies


class Process:
    """A started contestant.

    name:         what errors call it
    started:      seconds on the machine's monotonic clock
    """

    def __init__(self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **(environment or {})},
            encoding="utf-8",
            bufsize=1,
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait.

        Raises EngineError if the process ends, or answers with an error that is none of ours; one of ours as it was raised.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EngineError(f"{self.name}: the process ended with status {self._process.wait()}{self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _raised(self.name, answer["type"], answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        try:
            self._process.communicate(timeout=10)  # closes its input
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _last_words(self) -> str:
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - _LAST_WORDS))
        lines = self._said.read().decode("utf-8", errors="replace").strip().splitlines()
        return f": {lines[-1].strip()}" if lines else ""


def _raised(name: str, kind: str, message: str) -> AprError:
    """An error of the process as an error here: its class tells the command which exit code it has."""
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, AprError):
        error: AprError = found.__new__(found)
        error.args = (message,)
        return error
    return EngineError(f"{name}: {kind}: {message}")
