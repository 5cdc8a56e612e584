"""Run a model's code against tests: two fresh processes, the code in one, the tests in the other.

The code is confined (`_confinement`) and never meets the tests; it cannot pass by printing, by exiting early, with exit
status 0 or with an object that equals everything. A pass is a secret that the tests' process gives back after the last
check.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from apr.errors import EngineError
from apr.evals._confinement import LAYERS

Kind = Literal[
    "passed", "assertion", "exception", "syntax", "no_entry_point", "not_plain", "ended", "timeout", "memory"
]
_ROOT = Path(__file__).resolve().parents[2]
# As -I, but for PYTHONHASHSEED: the environment holds nothing else of Python's, and the order of a set is the same each time
_PYTHON = (sys.executable, "-P", "-s", "-S", "-B", "-c")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model's code may use.

    timeout_s:     wall time of code and checks together; CPU time is bounded by the same figure
    memory_bytes:  address space
    """

    timeout_s: float = 10.0
    memory_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a program.

    kind:      passed, or why not
    words:     the check that failed, or what the program raised; from code that nobody trusts
    n_calls:   of the function under test
    confined:  what held the program, by what it is about; empty if it was not started
    """

    kind: Kind
    words: str
    n_calls: int
    seconds: float
    confined: dict[str, str]

    @property
    def is_pass(self) -> bool:
        """Whether every check was run and held."""
        return self.kind == "passed"


def judge(
    source: str,
    *,
    entry_point: str,
    prelude: str,
    test: str,
    limits: Limits | None = None,
    layers: tuple[str, ...] = LAYERS,
) -> Verdict:
    """Run the checks of `test` (a function `check(candidate)`) on the function `entry_point` of the program `source`.

    prelude:  trusted code that defines what the tests use beside the function
    layers:   of the confinement, for tests of one alone
    Raises    EngineError if the checker itself fails: that is no verdict on the program.
    """
    limits = limits or Limits()
    started = time.monotonic()
    secret = secrets.token_hex(16)
    shared = {"cpu_s": max(1, round(limits.timeout_s)), "entry_point": entry_point, "memory_bytes": limits.memory_bytes}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="apr-sandbox-"))
        calls, replies = _Pipe(stack), _Pipe(stack)
        solver = stack.enter_context(_started("_solver", folder, (calls.read_end, replies.write_end)))
        checker = stack.enter_context(_started("_checker", folder, (calls.write_end, replies.read_end)))
        for pipe in (calls, replies):
            pipe.close()
        _tell(solver, shared | {"source": source, "layers": layers} | _ends(calls.read_end, replies.write_end))
        told = shared | {"prelude": prelude, "test": test, "secret": secret} | _ends(calls.write_end, replies.read_end)
        said = _heard(checker, told, limits.timeout_s)
        if said is None:
            return Verdict("timeout", f"over {limits.timeout_s:g} s", 0, time.monotonic() - started, {})
        ended_by = _kill(solver)
        if ended_by == -signal.SIGXCPU:
            return Verdict("timeout", f"over {shared['cpu_s']} s of CPU", 0, time.monotonic() - started, {})
    return _verdict(said, secret, time.monotonic() - started)


def _verdict(said: bytes, secret: str, seconds: float) -> Verdict:
    try:
        found: dict[str, Any] = json.loads(said)
        if found.pop("secret") != secret:
            raise ValueError("the secret is another")
        kind, words = found["kind"], str(found["words"])
        confined = {str(key): str(value) for key, value in found["confined"].items()}
        n_calls = int(found["n_calls"])
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise EngineError(f"the sandbox's checker gave no verdict ({exc}): {said[:200]!r}") from exc
    if kind not in get_args(Kind):
        kind, words = "not_plain", "an answer that is none"
    if kind == "exception" and words.startswith("MemoryError"):
        kind = "memory"
    return Verdict(kind, words, n_calls, seconds, confined)


class _Pipe:
    """Two descriptors that are inherited by whom they are given to, and closed here once."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.read_end, self.write_end = os.pipe()
        self._is_open = True
        stack.callback(self.close)

    def close(self) -> None:
        """Close both ends in this process."""
        if self._is_open:
            self._is_open = False
            os.close(self.read_end)
            os.close(self.write_end)


def _ends(calls: int, replies: int) -> dict[str, int]:
    return {"calls": calls, "replies": replies}


@contextlib.contextmanager
def _started(module: str, folder: str, descriptors: tuple[int, ...]) -> Any:
    """A fresh interpreter that runs one of our modules, in a session of its own, killed with its group at the end."""
    code = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from apr.evals import {module}; {module}.main()"
    environment = {"HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
    is_checker = module == "_checker"
    try:
        process = subprocess.Popen(
            [*_PYTHON, code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if is_checker else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            pass_fds=descriptors,
            start_new_session=True,
        )
    except OSError as exc:
        raise EngineError(f"the sandbox cannot start {sys.executable}: {exc}") from exc
    try:
        yield process
    finally:
        _kill(process)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _kill(process: subprocess.Popen[bytes]) -> int:
    """End a process and all of its group; how it ended."""
    if process.returncode is None:  # not waited for: its number is still its own, and its group's
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _tell(process: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has died: the other one will notice
        process.stdin.write(json.dumps(request).encode("ascii"))
        process.stdin.close()


def _heard(checker: subprocess.Popen[bytes], request: dict[str, Any], timeout_s: float) -> bytes | None:
    """What the checker says; None if it does not in time."""
    try:
        said, _ = checker.communicate(json.dumps(request).encode("ascii"), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return None
    return said
