"""The process that renders chat templates, seen from the parent: started when first needed, killed at its limits.

What it answers is treated as hostile, because a template that escaped the sandbox would be the one that answers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

CHILD = Path(__file__).with_name("_template_child.py")
LENGTH_BYTES = 8
OUTPUT_BYTES = 4 * 2**20  # as in _template_child.py, which counts; here the answer is measured again
START_S = 15.0
WALL_S = 2.0
# a JSON string spends at most 6 bytes on a byte of text: \u0000
_ANSWER_BYTES = 6 * OUTPUT_BYTES + 4096
_CHUNK = 65536


class ProcessLost(Exception):
    """The process was killed, died, or broke the protocol; the text says which, and what it ran into."""


class RenderProcess:
    """One child, reused across requests, and started again after it was lost. Safe to use from several threads.

    limits:  names of the resource limits that the running child says it has taken on
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._is_ready = False  # the child has said which limits hold
        self._owner = 0
        self.limits: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._finalizer: weakref.finalize[Any, Any] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start the child unless it runs, without waiting for it: it gets ready while the caller does something else.

        What keeps it from starting is for the first `ask` to say.
        """
        with self._lock, contextlib.suppress(ProcessLost, OSError):
            self._started()

    def ask(self, request: dict[str, Any], *, limit_s: float = WALL_S) -> dict[str, str]:
        """Send a request and return the answer: {"text"} or {"error", "message"}.

        limit_s:  wall time in seconds, from the sending to the last byte of the answer
        Raises    ProcessLost; the next call starts a new child.
        """
        payload = json.dumps(request, ensure_ascii=False).encode()
        with self._lock:
            child = self._running()
            try:
                answer = _parse(_exchange(child, payload, limit_s))
            except ProcessLost:
                self._stop()
                raise
            if answer.get("error") in ("memory", "recursion"):
                self._stop()  # an interpreter that ran out of either is not trusted with another template
            return answer

    def close(self) -> None:
        """Kill the child; a later `ask` starts another."""
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        child = self._started()
        if self._is_ready:
            return child
        try:
            self.limits = frozenset(_parse(_exchange(child, None, START_S)).get("text", "").split())
        except ProcessLost as exc:
            self._stop()
            raise ProcessLost(f"the rendering process could not be started with {sys.executable}: {exc}") from exc
        if "RLIMIT_AS" not in self.limits:
            logger.warning("this system does not limit the memory of a chat template; only its time is limited")
        self._is_ready = True
        return child

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._owner == os.getpid():
            return self._child
        # a child that was started before a fork has its pipes in the parent too: two readers would steal each other's bytes
        folders = sorted({str(_folder_of("jinja2")), str(_folder_of("markupsafe"))})
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(CHILD), *folders],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env={},
            close_fds=True,
            process_group=0,  # a Ctrl-C at the terminal is for us: it must not kill the child under a conversation
        )
        self._owner = os.getpid()
        self._finalizer = weakref.finalize(self, _kill, self._child, self._owner)
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self._is_ready = False
        return self._child

    def _stop(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._child = self._finalizer = None


def _folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ProcessLost(f"the package {package} is not installed; run: pip install 'jinja2>=3.1.6'")
    return Path(spec.origin).parents[1]


def _kill(child: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:
        return
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def _exchange(child: subprocess.Popen[bytes], payload: bytes | None, limit_s: float) -> bytes:
    """Send one frame (none for None) and read one frame, in at most limit_s seconds."""
    assert child.stdin is not None and child.stdout is not None
    deadline = time.monotonic() + limit_s
    outgoing = memoryview(b"" if payload is None else len(payload).to_bytes(LENGTH_BYTES, "big") + payload)
    answer = bytearray()
    with selectors.DefaultSelector() as ready:
        ready.register(child.stdout, selectors.EVENT_READ)
        if outgoing:
            ready.register(child.stdin, selectors.EVENT_WRITE)
        while not _is_whole(answer):
            left = deadline - time.monotonic()
            if left <= 0:
                raise ProcessLost(f"it ran longer than the limit of {limit_s:g} s and was stopped")
            for key, _ in ready.select(left):
                if key.fileobj is child.stdin:
                    outgoing = outgoing[_write(child, outgoing) :]
                    if not outgoing:
                        ready.unregister(child.stdin)
                else:
                    chunk = os.read(child.stdout.fileno(), _CHUNK)
                    if not chunk:
                        raise ProcessLost(_why_it_died(child))
                    answer += chunk
    if outgoing:
        raise ProcessLost("the rendering process answered before it had read the request")
    return bytes(answer[LENGTH_BYTES:])


def _write(child: subprocess.Popen[bytes], outgoing: memoryview) -> int:
    assert child.stdin is not None
    try:
        return os.write(child.stdin.fileno(), outgoing[:_CHUNK])
    except BrokenPipeError as exc:
        raise ProcessLost(_why_it_died(child)) from exc


def _is_whole(answer: bytearray) -> bool:
    if len(answer) < LENGTH_BYTES:
        return False
    expected = int.from_bytes(answer[:LENGTH_BYTES], "big")
    if expected > _ANSWER_BYTES or len(answer) > LENGTH_BYTES + expected:
        raise ProcessLost(f"the rendering process answered with more than the {_ANSWER_BYTES} bytes that are allowed")
    return len(answer) == LENGTH_BYTES + expected


def _parse(raw: bytes) -> dict[str, str]:
    try:
        answer = json.loads(raw)
        if not isinstance(answer, dict) or set(answer) not in ({"text"}, {"error", "message"}):
            raise ValueError("unknown fields")
        if not all(isinstance(value, str) for value in answer.values()):
            raise ValueError("a field that is not a text")
        size = sum(len(value.encode()) for value in answer.values())  # encode refuses lone surrogates
    except (ValueError, RecursionError) as exc:
        raise ProcessLost(f"the rendering process broke its protocol ({exc})") from exc
    if size > OUTPUT_BYTES:
        raise ProcessLost(f"the text passed the limit of {OUTPUT_BYTES // 2**20} MiB")
    return answer


def _why_it_died(child: subprocess.Popen[bytes]) -> str:
    try:
        status = child.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return "the rendering process closed its output"
    if status == -signal.SIGXCPU:
        return "it used up its processor time"
    if status < 0:
        return f"the rendering process was ended by signal {-status} ({signal.strsignal(-status)})"
    return f"the rendering process ended with status {status}"
