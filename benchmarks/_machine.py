"""The machine: what it is, who else is using it, and how fast it reads memory."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
REPOSITORY = Path(__file__).resolve().parent.parent
# more of a core than this, used by others during a segment, makes the machine busy
BUSY_CORES = 0.15
# /proc/stat counts in ticks of 10 ms a core: fewer than these prove nothing
BUSY_TICKS = 3
# far larger than any cache, small enough to be written and read in half a second
BANDWIDTH_BYTES = 1 << 29
BANDWIDTH_REPEATS = 3


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
    """How many cores others kept busy between `start` and `others`; `pids` and what they started are ours, as is this process."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._ours = self._ours_so_far()
        self._all = busy_ticks(Path("/proc/stat").read_text(encoding="ascii"))
        self._started = time.monotonic()

    def others(self) -> float:
        """Cores used by others on average since the watch was made; 0 where it cannot be told from the clock's grain."""
        ticks = busy_ticks(Path("/proc/stat").read_text(encoding="ascii")) - self._all
        ticks -= self._ours_so_far() - self._ours
        return others_cores(ticks, time.monotonic() - self._started)

    def _ours_so_far(self) -> int:
        own = Path(f"/proc/{os.getpid()}/stat").read_text(encoding="utf-8", errors="replace")
        # not what this process has started besides: the contestants that are waiting are others
        return process_ticks(own) + sum(self._family(pid) for pid in self._pids)

    @staticmethod
    def _family(pid: int) -> int:
        """Ticks of a process and all that it has started."""
        try:
            ticks = process_ticks(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace"))
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended: whoever asks it next will say so
            return 0
        return ticks + sum(Watch._family(int(child)) for child in children)


def others_cores(ticks: int, seconds: float) -> float:
    """Cores kept busy by `ticks` in `seconds`; too few ticks count as none."""
    return 0.0 if ticks < BUSY_TICKS else ticks / TICKS_PER_S / seconds


def wait_until_quiet(limit_s: float) -> None:
    """Return when others have been quiet for half a second, at the latest after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        watch = Watch(())
        time.sleep(0.5)
        if watch.others() <= BUSY_CORES:
            return


def read_bandwidth(threads: int) -> float | None:
    """GB/s of plain reads by so many threads, the median of three; None without the compiled kernels."""
    try:
        from apr.kernels import _native
    except ImportError:
        return None
    return statistics.median(_native.read_bandwidth(_native.Pool(threads), BANDWIDTH_BYTES, BANDWIDTH_REPEATS))


def description() -> dict[str, object]:
    """What every result says about where it was measured."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "l2_bytes": cache_bytes(2),
        "l3_bytes": cache_bytes(3),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit(),
    }


def cpu_model() -> str:
    """The processor's name with its family, model and stepping: virtual machines often give no more than "Xeon"."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
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


def commit() -> str:
    """The commit that is measured, marked if the sources differ from it; "unknown" outside a repository."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        return name + ("+changes" if _git("status", "--porcelain", "--", "src", "csrc") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
