"""What every result says about where it was measured; the machine itself is the room's (`apr.bench._machine`)."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from apr.bench._machine import cache_bytes, cpu_model, memory_bytes

REPOSITORY = Path(__file__).resolve().parent.parent


def description() -> dict[str, object]:
    """What every result says about where it was measured."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "l2_bytes": cache_bytes(2),
        "l3_bytes": cache_bytes(3),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit(),
    }


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
