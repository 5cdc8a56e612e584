"""The only registry: a plug-in is a file in a folder, and its name is the file's stem.

A file whose name starts with an underscore is machinery and is never listed. A name that a user types may hold
dashes (`llama-cpp`); the file has underscores (`llama_cpp.py`).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from apr.errors import UnsupportedError


def names(package: str) -> list[str]:
    """The plug-ins of a folder, sorted, as a user types them."""
    return list(_names(*((path, _changed_ns(path)) for path in import_module(package).__path__)))


def load(package: str, name: str) -> ModuleType:
    """Import the plug-in `name` of `package`. Raises UnsupportedError, listing what there is, for any other name."""
    known = names(package)
    if name.replace("_", "-") not in known:
        raise UnsupportedError(f"{package.rpartition('.')[2]}: no {name!r} here", known=known)
    return import_module(f"{package}.{name.replace('-', '_')}")


@lru_cache
def _names(*folders: tuple[str, int]) -> tuple[str, ...]:
    """Of folders as they were at a time: listing them takes a hundred times as long as asking whether they changed."""
    found: Iterable[pkgutil.ModuleInfo] = pkgutil.iter_modules([path for path, _ in folders])
    return tuple(sorted(m.name.replace("_", "-") for m in found if not m.name.startswith("_")))


def _changed_ns(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:  # within an archive, which does not change under us
        return 0
