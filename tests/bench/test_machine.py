"""Who else is using the machine, and what it can do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apr.bench import _machine


def test_busy_time_is_read_with_what_other_guests_took() -> None:
    assert _machine.busy_ticks("cpu  100 10 20 900 50 3 4 7 0 0\ncpu0 1 2 3\n") == 144


def test_a_process_with_blanks_in_its_name_is_counted() -> None:
    fields = "S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 2"
    assert _machine.process_ticks(f"77 (a name) (x) {fields}") == 300


def test_a_tick_or_two_do_not_make_a_machine_busy() -> None:
    assert _machine.others_cores(2, 0.01) == 0.0
    assert _machine.others_cores(50, 1.0) == pytest.approx(50 / os.sysconf("SC_CLK_TCK"))
    assert not _machine.is_busy(0.1) and _machine.is_busy(0.2) and not _machine.is_busy(None)


def test_what_a_contestant_starts_is_ours_and_what_others_do_is_not() -> None:
    spin = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    family = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}]); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", family], stdin=subprocess.PIPE) as child:
        watch = _machine.Watch((child.pid,))
        before = _machine.Watch._family(child.pid)
        deadline = time.monotonic() + 30
        while _machine.Watch._family(child.pid) - before < 30 and time.monotonic() < deadline:
            pass
        assert watch._ours_so_far() - watch._ours >= 30
        assert _machine.Watch(())._ours_so_far() < watch._ours_so_far()
        child.communicate()


def test_where_nobody_counts_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_machine, "_PROC", tmp_path)
    assert _machine.Watch((1,)).others() is None
    assert _machine.cpu_model()


def test_a_plain_read_has_a_figure_and_a_product_that_is_nothing_takes_microseconds() -> None:
    pytest.importorskip("apr.kernels._native")
    found = _machine.read_bandwidth(1, n_bytes=1 << 24)
    assert found is not None and 0.1 < found < 10_000
    cost = _machine.step_s(1)
    assert cost is not None and 0 < cost < 0.01


def test_without_the_compiled_kernels_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_machine._extension, "native", lambda: None)
    assert _machine.read_bandwidth(1) is None and _machine.step_s(1) is None


def test_the_machine_says_what_it_is() -> None:
    found = _machine.machine()
    assert found.cpu and found.cores >= 1 and found.memory_bytes > 1 << 28
    assert set(found.versions) == {"apr", "numpy", "python"}
