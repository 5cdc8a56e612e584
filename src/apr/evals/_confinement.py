"""Confine this process before it runs code that nobody has read: what it may use, reach and touch.

Each layer is tried and what holds is reported; nothing here is taken on trust from the system's version. Nothing but the
standard library is imported: this runs in a process that has nothing else.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from typing import Any

from apr.evals import _landlock, _syscalls

# "limits": of CPU time, memory, files; "namespaces": no network; "landlock": no files; "syscalls": none of all that
LAYERS = ("limits", "namespaces", "landlock", "syscalls")
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_NEW_NAMESPACES = 0x10000000 | 0x40000000 | 0x08000000  # CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC: linux/sched.h
_MAX_FILE_BYTES = 1 << 20
_MAX_OPEN_FILES = 64
_MAX_PROCESSES = 64  # of the user, where forking cannot be denied: the user has others
_READABLE = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime")


def die_with_parent() -> None:
    """Have the system end this process when the one that started it ends, and hide its memory from the user's others."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def limit(*, cpu_s: int, memory_bytes: int) -> None:
    """Bound CPU time (SIGXCPU, then SIGKILL) and memory, and leave no core file."""
    for what, most in (
        (resource.RLIMIT_CPU, (cpu_s, cpu_s + 1)),
        (resource.RLIMIT_AS, (memory_bytes, memory_bytes)),
        (resource.RLIMIT_CORE, (0, 0)),
    ):
        resource.setrlimit(what, most)


def confine(*, cpu_s: int, memory_bytes: int, layers: tuple[str, ...] = LAYERS) -> dict[str, str]:
    """Confine this process for good. What holds, by what it is about: "network", "files", "processes", "resources".

    layers:  those to try, for tests of one alone
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # before the namespace: whoever makes one may read its own files only through what it still may open
    is_alone = "namespaces" in layers and libc.unshare(_NEW_NAMESPACES) == 0
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    library = os.path.dirname(os.path.dirname(os.__file__))  # noqa: PTH120 - pathlib is slow to import
    readable = (*_READABLE, library, os.getcwd(), "/dev/null", "/dev/urandom")  # noqa: PTH109
    has_file_rules = "landlock" in layers and _landlock.restrict(readable)
    if "limits" in layers:
        limit(cpu_s=cpu_s, memory_bytes=memory_bytes)
        resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
        resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))
        resource.setrlimit(resource.RLIMIT_NPROC, (_MAX_PROCESSES, _MAX_PROCESSES))
    has_filter = "syscalls" in layers and _syscalls.deny()
    if not is_alone and not has_filter:
        _hide_network_modules()
    return {
        "network": _joined(("namespace", is_alone), ("system calls", has_filter)) or "blocked in Python only",
        "files": _joined(("landlock", has_file_rules), ("system calls", has_filter)) or "file size only",
        "processes": _joined(("system calls", has_filter)) or f"at most {_MAX_PROCESSES}",
        "resources": f"{cpu_s} s of CPU, {memory_bytes >> 20} MiB" if "limits" in layers else "none",
    }


def _joined(*parts: tuple[str, bool]) -> str:
    return " and ".join(name for name, holds in parts if holds)


def _hide_network_modules() -> None:
    """The last resort: `import socket` fails. Code that reaches for ctypes gets past it, and the report says so."""
    modules: dict[str, Any] = sys.modules
    for name in ("socket", "_socket", "ssl", "_ssl"):
        modules[name] = None
