"""What only a terminal shows, on a pseudo-terminal with a real child process: colour, streaming, Ctrl-C, line editing."""

from __future__ import annotations

import json
import os
import pty
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import tiny

fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")

LIMIT_S = 30


class Terminal:
    """A child on a terminal of its own: what it has shown so far, and what may be typed."""

    def __init__(self, *arguments: str | Path, columns: int = 80, environment: Mapping[str, str] | None = None) -> None:
        self.shown = ""
        self._seen = 0
        self._fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        inherited = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        # own session and controlling terminal, so that Ctrl-C reaches the child as it would a user's
        # a shell that runs the tests in the background leaves interrupts ignored, and children inherit that
        code = (
            "import fcntl, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
            "signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from apr.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        self.child = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=inherited | {"TERM": "xterm", "APR_OFFLINE": "1", **(environment or {})},
        )
        os.close(slave)

    def type(self, text: str) -> None:
        """Send keys; \\x03 is Ctrl-C, \\x04 is Ctrl-D."""
        os.write(self._fd, text.encode())

    def wait_for(self, text: str) -> str:
        """Read until a text comes after what was waited for last; return what came up to it."""
        deadline = time.monotonic() + LIMIT_S
        while (found := self.shown.find(text, self._seen)) < 0:
            assert time.monotonic() < deadline and self._read(), f"{text!r} did not come; shown: {self.shown!r}"
        came, self._seen = self.shown[self._seen : found], found + len(text)
        return came

    def interrupt(self, until: str) -> None:
        """Press Ctrl-C at a line editor until a text comes: CPython forgets one that arrives just before its select."""
        for _ in range(LIMIT_S):
            self.type("\x03")
            while select.select([self._fd], [], [], 0.5)[0] and self._read():
                pass
            if (found := self.shown.find(until, self._seen)) >= 0:
                self._seen = found + len(until)
                return
        raise AssertionError(f"{until!r} did not come; shown: {self.shown!r}")

    def finish(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self.child.wait(timeout=LIMIT_S)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        os.close(self._fd)

    def _read(self) -> bool:
        if not select.select([self._fd], [], [], LIMIT_S)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the child has closed its side
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def terminal(home: Path) -> Iterator[Any]:
    opened: list[Terminal] = []

    def start(*arguments: str | Path, **options: Any) -> Terminal:
        opened.append(Terminal(*arguments, **options))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_a_table_is_coloured_and_no_color_is_obeyed(terminal: Any) -> None:
    coloured, plain, dumb = (
        terminal("list", environment=environment) for environment in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"})
    )
    assert [t.finish() for t in (coloured, plain, dumb)] == [0, 0, 0]
    assert "\x1b[1mCAN BE PULLED" in coloured.shown
    assert "\x1b" not in plain.shown + dumb.shown


@pytest.mark.parametrize("columns", [40, 80])
def test_nothing_of_the_list_is_wider_than_the_terminal(terminal: Any, columns: int) -> None:
    shown = terminal("list", columns=columns, environment={"NO_COLOR": "1"})
    shown.finish()
    assert columns == 40 or max(map(len, shown.shown.splitlines())) <= columns
    assert columns == 80 or "CAN BE PULLED\tSIZE" in shown.shown


@pytest.fixture(scope="module")
def patient_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose context is long enough to interrupt it."""
    return tiny.write(tmp_path_factory.mktemp("patient"), "gguf", tiny.config(max_position_embeddings=200_000))


def test_ctrl_c_ends_a_run_with_what_there_is(terminal: Any, patient_gguf: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    run = terminal("run", patient_gguf, "hi", "-n", "150000", "--ignore-eos", "--record", record)
    run.wait_for("prompt tokens")
    run.wait_for("\n")
    run.type("\x03")
    said = run.wait_for("load")
    assert run.finish() == 130 and "tokens, interrupted" in said
    assert json.loads(record.read_text())["finish_reason"] == "interrupted"


def test_ctrl_c_stops_an_answer_and_the_chat_goes_on(terminal: Any, patient_gguf: Path) -> None:
    chat = terminal("chat", patient_gguf, "-n", "150000")
    chat.wait_for("> ")
    chat.type("one\n")
    chat.wait_for("one\r\n")
    chat.type("\x03")
    chat.wait_for("> ")
    chat.type("/exit\n")
    assert chat.finish() == 0


def test_generated_escapes_never_reach_the_terminal(terminal: Any, patient_gguf: Path) -> None:
    # every byte is a token of this model: at a high temperature it writes them all
    run = terminal("run", patient_gguf, "hi", "-n", "3000", "-t", "5", environment={"NO_COLOR": "1"})
    assert run.finish() == 0
    assert "\x1b" not in run.shown and "\\x1b" in run.shown


def test_run_that_waits_for_a_prompt_says_what_to_type(terminal: Any, tiny_gguf: Path) -> None:
    run = terminal("run", tiny_gguf)
    assert run.finish() == 2 and "no prompt: give it as an argument" in run.shown


def test_chat_answers_again_after_ctrl_c(terminal: Any, tiny_gguf: Path) -> None:
    chat = terminal("chat", tiny_gguf, "-n", "3", "-t", "0")
    chat.wait_for("> ")
    chat.type("one\n")
    chat.wait_for("tok/s")
    chat.wait_for("> ")
    chat.type("junk")
    chat.wait_for("junk")
    chat.interrupt("> ")
    chat.type("two\n")
    assert "rendering process" not in chat.wait_for("tok/s")
    chat.wait_for("> ")
    chat.type("/exit\n")
    assert chat.finish() == 0


def test_chat_keeps_a_history_that_only_its_owner_can_read(terminal: Any, tiny_gguf: Path, home: Path) -> None:
    chat = terminal("chat", tiny_gguf, "-n", "1")
    chat.wait_for("> ")
    chat.type("/help\n")
    chat.wait_for("/exit")
    chat.wait_for("> ")
    chat.type("\x04")
    assert chat.finish() == 0
    history = home / "state" / "chat_history"
    assert "/help" in history.read_text() and history.stat().st_mode & 0o077 == 0


def test_a_turn_that_does_not_fit_does_not_end_the_chat(terminal: Any, tiny_gguf: Path) -> None:
    chat = terminal("chat", tiny_gguf, "-n", "1")
    chat.wait_for("> ")
    chat.type("hello " * 100 + "\n")
    assert "256" in chat.wait_for("next: /reset")
    chat.wait_for("> ")
    chat.type("\x04")
    assert chat.finish() == 0
