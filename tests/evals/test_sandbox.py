"""A model's code is run where it can do no harm, and passes only by passing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from apr.errors import EngineError
from apr.evals import _sandbox, _syscalls, _values
from apr.evals._confinement import LAYERS
from apr.evals._sandbox import Limits, Verdict

TEST = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 6\n"
QUICK = Limits(timeout_s=20.0, memory_bytes=256 << 20)
HAS_FILTER = _syscalls._program() is not None


def verdict_on(source: str, *, test: str = TEST, limits: Limits = QUICK, layers: tuple[str, ...] = LAYERS) -> Verdict:
    return _sandbox.judge(
        source, entry_point="f", prelude="def f(x):\n    pass\n", test=test, limits=limits, layers=layers
    )


def test_a_right_program_passes_and_says_what_held_it() -> None:
    verdict = verdict_on("def f(x):\n    return 2 * x\n")
    assert verdict.is_pass and verdict.n_calls == 2
    assert set(verdict.confined) == {"network", "files", "processes", "resources"}


def test_a_wrong_program_fails_and_the_check_is_named() -> None:
    verdict = verdict_on("def f(x):\n    return x + 2\n")
    assert (verdict.kind, verdict.words) == ("assertion", "assert candidate(3) == 6")


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("def f(x) return", "syntax"),
        ("def g(x):\n    return 1", "no_entry_point"),
        ("def f(x):\n    return undefined", "exception"),
        ("def f(x: List[int]):\n    return 2 * x", "exception"),
        ("def f(x):\n    return f(x)", "exception"),
        ("def f(x):\n    return len('a' * (1 << 33))", "memory"),
        ("def f(x):\n    return lambda: 0", "not_plain"),
    ],
    ids=["syntax", "no function", "name", "annotation", "recursion", "memory hog", "no data"],
)
def test_every_way_to_be_wrong_has_its_name(source: str, kind: str) -> None:
    assert verdict_on(source).kind == kind


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nsys.exit(0)",
        "raise SystemExit(0)",
        "import os\nos._exit(0)",
        "import os\ndef f(x):\n    os._exit(0)",
        "print('passed')\nprint('{\"secret\": \"\", \"kind\": \"passed\"}')\ndef f(x):\n    return 0",
        "class E:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return E()",
        "class E(int):\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return E(0)",
        "import sys\ndef f(x):\n    sys.modules['builtins'].AssertionError = Exception\n    return 0",
        "import os\ndef f(x):\n    for d in range(3, 60):\n        try:\n            os.write(d, b'\\x0d\\0\\0\\0{\"ready\":true}')\n        except OSError:\n            pass\n    return 0",
    ],
    ids=["sys.exit", "SystemExit", "os._exit", "exit in a call", "prints success", "equals all", "an int that equals all",
         "replaces builtins", "writes into every pipe"],
)  # fmt: skip
def test_a_program_cannot_cheat(source: str) -> None:
    assert not verdict_on(source).is_pass


@pytest.mark.parametrize(
    "source", ["def f(x):\n    while True:\n        pass", "import time\ndef f(x):\n    time.sleep(99)"]
)
def test_what_does_not_end_is_ended(source: str) -> None:
    started = time.monotonic()
    verdict = verdict_on(source, limits=Limits(timeout_s=1.0))
    assert verdict.kind == "timeout" and time.monotonic() - started < 10


def test_a_hog_of_memory_is_stopped_at_its_limit() -> None:
    source = "def f(x):\n    kept = []\n    while True:\n        kept.append('x' * 1_000_000)\n"
    assert verdict_on(source).kind in ("memory", "ended")


# what succeeds of these is what the sandbox let through
ATTEMPTS = {
    "fork": "import os; os.fork() or os._exit(0)",
    "thread": "import threading; threading.Thread(target=print).start()",
    "subprocess": "import subprocess; subprocess.run(['true'])",
    "exec": "import os; os.execv('/bin/true', ['true'])",
    "kill the parent": "import os; os.kill(os.getppid(), 9)",
    "kill all": "import os; os.kill(-1, 9)",
    "leave the group": "import os; os.setsid()",
    "socket": "import socket; socket.socket()",
    "connection": "import socket; socket.create_connection(('127.0.0.1', 22), timeout=1)",
    "socket of the C library": "import ctypes; assert ctypes.CDLL(None).socket(2, 1, 0) >= 0",
    "memory file": "import os; os.memfd_create('x')",
    "limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "write": "open(VICTIM, 'w').write('x')",
    "append": "open(VICTIM, 'a').write('x')",
    "create": "open(VICTIM + '2', 'w')",
    "remove": "import os; os.unlink(VICTIM)",
    "mode": "import os; os.chmod(VICTIM, 0)",
    "truncate": "import os; os.truncate(VICTIM, 0)",
    "rename": "import os; os.rename(VICTIM, VICTIM + '3')",
    "times": "import os; os.utime(VICTIM, (0, 0))",
    "link": "import os; os.symlink('/etc', VICTIM + '4')",
    "write at home": "open('here', 'w')",
    "read": "open(VICTIM).read()",
    "read a system file": "open('/etc/passwd').read()",
    "look into the parent": "import os; open(f'/proc/{os.getppid()}/mem', 'rb')",
}


@pytest.mark.skipif(not HAS_FILTER, reason="the filter of system calls is not written for this processor")
def test_nothing_is_forked_killed_reached_written_changed_or_read(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    before = victim.stat()
    verdict = verdict_on(_trying(victim), test="def check(candidate):\n    assert candidate(0) == [], candidate(0)\n")
    assert verdict.is_pass, verdict
    assert victim.read_text() == "mine" and victim.stat().st_mode == before.st_mode
    assert [p.name for p in tmp_path.iterdir()] == ["victim"]


def test_without_confinement_the_same_program_gets_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    harmless = ("fork", "thread", "memory file", "write", "create", "mode", "write at home", "read a system file")
    test = f"def check(candidate):\n    assert sorted(candidate(0)) == {sorted(harmless)}, candidate(0)\n"
    verdict = verdict_on(_trying(victim, harmless), test=test, layers=())
    assert verdict.is_pass, verdict


def _trying(victim: Path, names: tuple[str, ...] = tuple(ATTEMPTS)) -> str:
    attempts = {name: ATTEMPTS[name] for name in names}
    return (
        f"ATTEMPTS = {attempts!r}\nVICTIM = {str(victim)!r}\ndef f(x):\n    done = []\n"
        "    for name, code in ATTEMPTS.items():\n        try:\n            exec(code, {'VICTIM': VICTIM})\n"
        "            done.append(name)\n        except (Exception, SystemExit):\n            pass\n    return done\n"
    )


@pytest.mark.parametrize("layer", ["landlock", "syscalls"])
def test_one_layer_alone_keeps_files_from_being_written(tmp_path: Path, layer: str) -> None:
    body = f"open({str(tmp_path / 'new')!r}, 'w')"
    verdict = verdict_on(f"def f(x):\n    {body}\n", layers=("limits", layer))
    if verdict.confined.get("files") == "file size only":
        pytest.skip(f"the kernel has no {layer}")
    assert verdict.kind == "exception" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("layer", ["namespaces", "syscalls"])
def test_one_layer_alone_keeps_the_network_away(layer: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        port = int(server.stdout.readline())
        source = f"import socket\ndef f(x):\n    socket.create_connection(('127.0.0.1', {port}), timeout=2)\n    return 2 * x\n"
        free, held = verdict_on(source, layers=()), verdict_on(source, layers=(layer,))
        server.communicate("")
    assert free.kind == "exception" and "blocked in Python only" in free.confined["network"], free
    if held.confined["network"] == "blocked in Python only":
        pytest.skip(f"the kernel has no {layer}")
    assert held.kind == "exception", "the connection was made"


def test_children_that_could_be_made_are_killed_with_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []
    start = subprocess.Popen

    def started(*arguments: Any, **options: Any) -> Any:
        process = start(*arguments, **options)
        groups.append(process.pid)  # each is a session of its own
        return process

    monkeypatch.setattr(_sandbox.subprocess, "Popen", started)
    source = "import os, time\ndef f(x):\n    if os.fork() == 0:\n        time.sleep(60)\n    return os.getpgid(0)\n"
    seen = "def check(candidate):\n    group = candidate(0)\n    assert group < 0, group\n"
    verdict = _sandbox.judge(source, entry_point="f", prelude="", test=seen, limits=QUICK, layers=("limits",))
    assert verdict.kind == "assertion"
    assert len(groups) == 2
    ends = time.monotonic() + 10.0
    while any(map(_has_processes, groups)) and time.monotonic() < ends:
        time.sleep(0.05)  # what is killed is gone when somebody has waited for it
    assert not any(map(_has_processes, groups))


def _has_processes(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_program_sees_nothing_of_ours_and_an_empty_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APR_SECRET", "1")
    source = "import os, sys\ndef f(x):\n    return [sorted(os.environ), os.listdir('.'), os.getcwd() == os.environ['HOME'], 'apr' in sys.modules and sys.modules['apr'].__file__ is None]"
    test = "def check(candidate):\n    names, files, is_home, _ = candidate(0)\n    assert 'APR_SECRET' not in names and files == [] and is_home\n"
    assert verdict_on(source, test=test).is_pass


def test_the_order_of_a_set_is_the_same_each_time() -> None:
    source = "def f(x):\n    return list({'alpha', 'beta', 'gamma', 'delta', 'epsilon'})\n"
    test = "def check(candidate):\n    assert candidate(0) == ORDER, candidate(0)\n"
    said = {verdict_on(source, test="ORDER = None\n" + test).words for _ in range(2)}
    assert len(said) == 1


def test_values_pass_whole_and_arguments_too() -> None:
    test = "def check(candidate):\n    for v in (None, True, 1, 10**5000, 1.5, float('inf'), 'ä\\ud800', [1], (1, (2,)), {1: 'a', (2,): None}, {1, 2}, b'x', 1j, []):\n        found = candidate(v)\n        assert found == v and type(found) is type(v), v\n"
    assert verdict_on("def f(x):\n    return x\n", test=test).is_pass


def test_a_counter_passes_as_the_dictionary_that_it_is() -> None:
    test = "def check(candidate):\n    assert candidate('aab') == {'a': 2, 'b': 1}\n"
    assert verdict_on("from collections import Counter\ndef f(x):\n    return Counter(x)\n", test=test).is_pass


@pytest.mark.parametrize("message", [{"zip": []}, {"a": 1, "b": 2}, {"bytes": "zz"}, {"dict": [[1]]}])
def test_a_forged_value_is_refused(message: object) -> None:
    with pytest.raises(_values.NotPlain):
        _values.unpack(message)


def test_a_message_that_is_too_long_is_refused() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, (1 << 31).to_bytes(4, "little"))
    with pytest.raises(_values.NotPlain, match="at most"):
        _values.receive(read_end)
    os.close(write_end)
    with pytest.raises(EOFError):
        _values.receive(read_end)
    os.close(read_end)


@pytest.mark.parametrize(
    "said", [b"", b"{}", b'{"secret": "guessed", "kind": "passed"}'], ids=["nothing", "no secret", "a guess"]
)
def test_a_verdict_without_the_secret_is_none(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(_sandbox, "_heard", lambda *_: said)
    with pytest.raises(EngineError, match="gave no verdict"):
        verdict_on("def f(x):\n    return 2 * x\n")


def test_an_interpreter_that_is_not_there_is_an_engine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sandbox, "_PYTHON", ("/nonexistent/python", "-c"))
    with pytest.raises(EngineError, match="cannot start"):
        verdict_on("def f(x):\n    return 2 * x\n")


def test_a_program_that_overspends_cpu_time_ran_out_of_time() -> None:
    source = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_DFL)\ndef f(x):\n    while True:\n        pass\n"
    verdict = _sandbox.judge(source, entry_point="f", prelude="", test=TEST, limits=Limits(timeout_s=1.4))
    assert verdict.kind == "timeout", signal.Signals.SIGXCPU
