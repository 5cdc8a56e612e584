"""The rendering process: its limits, its death, and answers that are not to be believed."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apr.tokenizer import _template_process
from apr.tokenizer._template_process import ProcessLost, RenderProcess

REQUEST: dict[str, Any] = {"source": "{{ x }}", "context": {"x": "hello"}, "now": "2026-01-02T03:04:05"}
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/limits").exists(), reason="reads the limits of a process from /proc"
)
FRAME = "import os, sys, time\ndef send(b, n=None): os.write(1, (len(b) if n is None else n).to_bytes(8, 'big') + b)\n"
READY = FRAME + 'send(b\'{"text": "RLIMIT_AS"}\')\nos.read(0, 8)\n'


@pytest.fixture
def process() -> Iterator[RenderProcess]:
    made = RenderProcess()
    yield made
    made.close()


@needs_proc
def test_the_child_has_its_limits_no_files_no_environment_and_no_numpy(process: RenderProcess) -> None:
    process.ask(REQUEST)
    home = Path(f"/proc/{process.pid}")
    limits = {line[:26].strip(): line[26:].split()[:2] for line in (home / "limits").read_text().splitlines()}
    assert limits["Max address space"] == [str(512 * 2**20)] * 2
    assert limits["Max file size"] == limits["Max core file size"] == limits["Max processes"] == ["0", "0"]
    assert limits["Max open files"] == ["3", "3"]
    assert int(limits["Max cpu time"][0]) <= 5
    assert sorted(path.name for path in (home / "fd").iterdir()) == ["0", "1", "2"]
    assert (home / "environ").read_bytes() == b""
    assert (home / "cwd").readlink() == Path("/")
    assert "numpy" not in (home / "maps").read_text()


@needs_proc
def test_the_child_says_which_limits_hold(process: RenderProcess) -> None:
    process.ask(REQUEST)
    assert process.limits == {"RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_NPROC", "RLIMIT_NOFILE"}


@pytest.mark.skipif(sys.platform != "linux", reason="finds the file descriptor through /proc")
def test_files_of_the_parent_do_not_reach_the_child(process: RenderProcess, tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(handle, True)
    try:
        process.ask(REQUEST)
        assert not Path(f"/proc/{process.pid}/fd/{handle}").exists()
    finally:
        os.close(handle)


def test_one_child_serves_many_requests(process: RenderProcess) -> None:
    process.ask(REQUEST)
    first = process.pid
    for _ in range(50):
        assert process.ask(REQUEST) == {"text": "hello"}
    assert process.pid == first


def test_a_child_that_was_started_ahead_answers_the_first_request(process: RenderProcess) -> None:
    process.start()
    first = process.pid
    process.start()
    assert first is not None and process.pid == first
    assert process.ask(REQUEST) == {"text": "hello"} and process.limits
    assert process.pid == first


def test_what_keeps_a_child_from_starting_is_for_the_first_request_to_say(
    process: RenderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_template_process, "_folder_of", _missing)
    process.start()
    assert process.pid is None
    with pytest.raises(ProcessLost, match="not installed"):
        process.ask(REQUEST)


def _missing(package: str) -> Path:
    raise ProcessLost(f"the package {package} is not installed")


def test_a_killed_child_is_replaced(process: RenderProcess) -> None:
    process.ask(REQUEST)
    first = process.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ProcessLost, match="signal 9"):
        process.ask(REQUEST)
    assert process.ask(REQUEST) == {"text": "hello"}
    assert process.pid != first


def test_a_request_of_megabytes_arrives_and_its_answer_returns(process: RenderProcess) -> None:
    text = "é" * 10**6
    assert process.ask({**REQUEST, "context": {"x": text}}) == {"text": text}


def test_threads_share_one_child(process: RenderProcess) -> None:
    answers: list[dict[str, str]] = []
    threads = [
        threading.Thread(target=lambda i=i: answers.append(process.ask({**REQUEST, "context": {"x": f"{i}"}})))
        for i in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(answer["text"]) for answer in answers) == list(range(16))


def test_the_child_starts_in_a_quarter_of_a_second(process: RenderProcess) -> None:
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process.ask(REQUEST)
        process.close()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.25  # processor time: the wall clock belongs to the machine's other users


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (READY + "send(b'x', 2**62)", "more than"),
        (READY + "send(b'not json')", "protocol"),
        (READY + "send(b'[1]')", "protocol"),
        (READY + "send(b'[' * 100000)", "protocol"),
        (READY + "send(b'{\"text\": 1}')", "protocol"),
        (READY + 'send(b\'{"text": "\\\\ud800"}\')', "protocol"),
        (READY + 'send(b\'{"text": "x", "more": 1}\')', "protocol"),
        (READY + "send(b'{\"text\": \"' + b'x' * (5 << 20) + b'\"}')", "4 MiB"),
        (READY + "send(b'{}')", "protocol"),
        (READY + "os._exit(7)", "status 7"),
        (READY + "os.abort()", "signal 6"),
        (READY + "time.sleep(9)", "limit of 0.5 s"),
        (READY + "os.close(1); time.sleep(9)", "closed its output"),
        ("raise SystemExit(3)", "could not be started"),
        (FRAME + "send(b'x' * 9, 8)", "could not be started"),
    ],
)
def test_a_child_that_lies_or_dies_is_lost(
    script: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child.py"
    child.write_text(script)
    monkeypatch.setattr(_template_process, "CHILD", child)
    process = RenderProcess()
    with pytest.raises(ProcessLost, match=words):
        # a large request: the liar answers before it has read it
        process.ask({**REQUEST, "context": {"x": "x" * 10}}, limit_s=0.5)
    assert process.pid is None


def test_processor_time_runs_out_even_if_the_parent_does_not_look(
    process: RenderProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child.py"
    child.write_text(_template_process.CHILD.read_text().replace("CPU_S = 3", "CPU_S = 0"))
    monkeypatch.setattr(_template_process, "CHILD", child)
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(ProcessLost, match="processor time"):
        process.ask({**REQUEST, "source": loop}, limit_s=20)
