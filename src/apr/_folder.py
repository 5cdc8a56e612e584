"""The only registry: a plug-in is a file in a folder, and its name is the file's stem.

A file whose name starts with an underscore is machinery and is never listed. A name that a user types may hold
dashes (`llama-cpp`); the file has underscores (`llama_cpp.py`).
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType

from apr.errors import UnsupportedError


def names(package: str) -> list[str]:
    """The plug-ins of a folder, sorted, as a user types them."""
    home = import_module(package)
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(home.__path__) if not m.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Import the plug-in `name` of `package`. Raises UnsupportedError, listing what there is, for any other name."""
    known = names(package)
    if name.replace("_", "-") not in known:
        raise UnsupportedError(f"{package.rpartition('.')[2]}: no {name!r} here", known=known)
    return import_module(f"{package}.{name.replace('-', '_')}")
