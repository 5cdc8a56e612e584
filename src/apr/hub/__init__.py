"""Names to local files, checked by SHA-256: aliases, the hub, the package index, URLs, and a cache of what was fetched.

Importing this room is light; the network's libraries are loaded by the first pull.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr.hub._environment import cache_dir, state_dir
from apr.hub._progress import Progress
from apr.hub.alias import Alias, aliases

if TYPE_CHECKING:
    from apr.hub._pull import Pulled
    from apr.hub.cache import CachedModel

__all__ = [
    "Alias",
    "CachedModel",
    "Progress",
    "Pulled",
    "aliases",
    "cache_dir",
    "cached",
    "pull",
    "remove",
    "resolve",
    "state_dir",
]


def resolve(reference: str, *, progress: Progress | None = None, offline: bool | None = None) -> Path:
    """The local path of a model: an existing path itself, else the cached file, pulled first if it is not there.

    offline:  True: open no socket; False: the network may be used; None: as APR_OFFLINE and HF_HUB_OFFLINE say
    Raises    HubError (no such name, no source delivered), ChecksumError (wrong bytes), OfflineError (network needed).
    """
    from apr.hub import _environment, _pull

    path = _pull.cached_path(reference)
    if path is not None:
        return path
    closed_by = _environment.offline_switch() if offline is None else "offline=True" if offline else None
    return _pull.pull(reference, progress=progress, closed_by=closed_by).path


def pull(reference: str, *, progress: Progress | None = None) -> Pulled:
    """Fetch a model into the cache unless it is there, and say what was done. Raises as `resolve`."""
    from apr.hub import _environment, _pull

    return _pull.pull(reference, progress=progress, closed_by=_environment.offline_switch())


def cached() -> list[CachedModel]:
    """Every model in the cache, by reference."""
    from apr.hub import cache

    return cache.listed()


def remove(reference: str) -> CachedModel:
    """Remove a model from the cache and say what was removed. Raises HubError, listing what is cached, if it is not."""
    from apr.hub import _pull

    return _pull.remove(reference)


def __getattr__(name: str) -> Any:
    if name == "Pulled":
        from apr.hub import _pull

        return _pull.Pulled
    if name == "CachedModel":
        from apr.hub import cache

        return cache.CachedModel
    raise AttributeError(f"module 'apr.hub' has no attribute {name!r}")
