"""The machine: what it is, who else is using it, and how fast it reads memory."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

import apr
from apr.engines._language_model import default_threads
from apr.kernels import _extension

# more of a core than this, used by others during a segment, makes the machine busy
BUSY_CORES = 0.15
# /proc/stat counts in ticks of 10 ms a core: fewer than these prove nothing
BUSY_TICKS = 3
# far larger than any cache, small enough to be written and read in half a second
BANDWIDTH_BYTES = 1 << 29
BANDWIDTH_REPEATS = 3
_GLANCE_S = 0.5
_SMALL = (256, 256)  # rows enough to be shared by threads, 70 kB: in any second-level cache
_STEPS = 101
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where something was measured.

    cpu:            the processor's name, with family, model and stepping
    cores:          those that this process may run on
    l2_bytes, l3_bytes: of the first core's caches; 0 where the system does not say
    memory_bytes:   of the whole machine
    system:         operating system and release
    versions:       of Python, and of what computes
    load_average:   of the minute before the start; null where the system does not say
    others_cores:   cores that other processes kept busy in the half second before; null where it cannot be told
    """

    cpu: str
    cores: int
    l2_bytes: int
    l3_bytes: int
    memory_bytes: int
    system: str
    versions: dict[str, str]
    load_average: float | None
    others_cores: float | None


def machine() -> Machine:
    """The machine as it is now. Takes half a second, in which others are watched."""
    watch = Watch(())
    time.sleep(_GLANCE_S)
    return Machine(
        cpu=cpu_model(),
        cores=default_threads(),
        l2_bytes=cache_bytes(2),
        l3_bytes=cache_bytes(3),
        memory_bytes=memory_bytes(),
        system=f"{platform.system()} {platform.release()}",
        versions={"apr": apr.__version__, "numpy": metadata.version("numpy"), "python": platform.python_version()},
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        others_cores=watch.others(),
    )


def busy_ticks(stat: str) -> int:
    """Ticks that all cores together were busy, other guests of the host included, from the text of /proc/stat."""
    numbers = [int(word) for word in stat.splitlines()[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = numbers[:8]
    return user + nice + system + irq + softirq + steal


def process_ticks(stat: str) -> int:
    """Ticks of CPU time of a process, all its threads, and of its children that have ended; from /proc/PID/stat."""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks
    return sum(int(ticks) for ticks in fields[11:15])


class Watch:
    """How many cores others kept busy between its making and `others`; `pids` and what they started are ours, as is this process."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._is_possible = (_PROC / "stat").exists()
        if self._is_possible:
            self._ours = self._ours_so_far()
            self._all = busy_ticks((_PROC / "stat").read_text(encoding="ascii"))
        self._started = time.monotonic()

    def others(self) -> float | None:
        """Cores used by others on average since then; 0 where the clock is too coarse, None where nobody counts."""
        if not self._is_possible:
            return None
        ticks = busy_ticks((_PROC / "stat").read_text(encoding="ascii")) - self._all
        ticks -= self._ours_so_far() - self._ours
        return others_cores(ticks, time.monotonic() - self._started)

    def _ours_so_far(self) -> int:
        own = (_PROC / str(os.getpid()) / "stat").read_text(encoding="utf-8", errors="replace")
        # not what this process has started besides: the contestants that are waiting are others
        return process_ticks(own) + sum(self._family(pid) for pid in self._pids)

    @staticmethod
    def _family(pid: int) -> int:
        """Ticks of a process and all that it has started."""
        folder = _PROC / str(pid)
        try:
            ticks = process_ticks((folder / "stat").read_text(encoding="utf-8", errors="replace"))
            children = (folder / "task" / str(pid) / "children").read_text(encoding="ascii").split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended: whoever asks it next will say so
            return 0
        return ticks + sum(Watch._family(int(child)) for child in children)


def others_cores(ticks: int, seconds: float) -> float:
    """Cores kept busy by `ticks` in `seconds`; too few ticks count as none."""
    return 0.0 if ticks < BUSY_TICKS else ticks / os.sysconf("SC_CLK_TCK") / seconds


def is_busy(cores: float | None) -> bool:
    """Whether others were busy; where it cannot be told they were not."""
    return cores is not None and cores > BUSY_CORES


def wait_until_quiet(limit_s: float) -> None:
    """Return when others have been quiet for half a second, at the latest after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        watch = Watch(())
        time.sleep(_GLANCE_S)
        if not is_busy(watch.others()):
            return


def read_bandwidth(threads: int, *, n_bytes: int = BANDWIDTH_BYTES) -> float | None:
    """GB/s of plain reads by so many threads, the median of three; None without the compiled kernels.

    n_bytes:  read each time, a quarter of the machine's memory at the most
    """
    native = _extension.native()
    if native is None:
        return None
    size = min(n_bytes, memory_bytes() // 4)
    figures: list[float] = native.read_bandwidth(native.Pool(threads), size, BANDWIDTH_REPEATS)
    return statistics.median(figures)


def step_s(threads: int) -> float | None:
    """Seconds to start and join one product so small that its arithmetic is nothing; None without the compiled kernels."""
    native = _extension.native()
    if native is None:
        return None
    rows, columns = _SMALL
    weight = native.Weight("q8_0", rows, columns)
    weight.fill(np.zeros(rows * native.Weight.row_bytes("q8_0", columns), dtype=np.uint8), 0, rows, None)
    x, pool = np.zeros((1, columns), dtype=np.float32), native.Pool(threads)
    seconds = []
    for _ in range(_STEPS):
        started = time.perf_counter()
        native.linear(pool, x, weight, None, "int8")
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def cpu_model() -> str:
    """The processor's name with its family, model and stepping: virtual machines often give no more than "Xeon"."""
    try:
        text = (_PROC / "cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in found.items()}
    numbers = "/".join(fields.get(key, "?") for key in ("cpu family", "model", "stepping"))
    return f"{fields.get('model name', platform.machine())} (family/model/stepping {numbers})"


def cache_bytes(level: int) -> int:
    """Bytes of the first core's cache of a level; 0 where the system does not say."""
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (folder / "level").read_text(encoding="ascii").strip() == str(level):
            size = (folder / "size").read_text(encoding="ascii").strip()
            return int(size.rstrip("KM")) * (1 << 20 if size.endswith("M") else 1 << 10)
    return 0


def memory_bytes() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
