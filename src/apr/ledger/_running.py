"""Runs what a contract's check says: a command of ours in a process of its own, and the JSON document that it leaves.

What is run is what a person can type, and so is what is written down. A check that needs an
original and is given none, and a test that no check of ours stands behind, are not runnable; neither is ever a pass.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from apr.ledger.contract import Check, fill

_LAST_WORDS = 2000  # characters of stderr that are kept


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left.

    command:   as a person would type it
    document:  its JSON, with "exit_code" beside its own keys; None if it wrote none
    said:      the end of its stderr
    """

    command: tuple[str, ...]
    document: Mapping[str, Any] | None
    exit_code: int
    said: str
    seconds: float


def why_not(check: Check | None, *, reference: str | None) -> str | None:
    """Why a check cannot be run here; None if it can."""
    if check is None:
        return "no check of ours stands behind this test: add `check:` to it"
    if reference is None and check.needs_reference:
        return "it compares with an original, and none was given: --reference ORIGINAL"
    return None


@contextmanager
def filled(check: Check, *, model: str, reference: str | None) -> Iterator[tuple[str, ...]]:
    """The command line behind a check, `apr` first; its empty folder is there as long as this lasts."""
    with tempfile.TemporaryDirectory(prefix="apr-check-") as scratch:
        yield ("apr", *fill(check, model=model, reference=reference, scratch=scratch).argv)


def run(command: tuple[str, ...], *, timeout_s: float) -> Ran:
    """Run a command to its end, or kill it and its children when its time is over or we are interrupted."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        out, err = process.communicate()
        err += f"\nkilled after {timeout_s:g} s"
    except BaseException:
        _kill(process)
        process.communicate()
        raise
    document = _document(out)
    if document is not None:
        document = {**document, "exit_code": process.returncode}
    return Ran(command, document, process.returncode, err[-_LAST_WORDS:].strip(), time.perf_counter() - started)


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def _document(text: str) -> dict[str, Any] | None:
    """The one JSON object of a command's output; run records of `apr run --json` come one a line."""
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        found = [json.loads(line) for line in lines]
    except ValueError:
        return None
    if not found or not all(isinstance(one, dict) for one in found):
        return None
    return found[0] if len(found) == 1 else {"records": found}
