"""Write under a temporary name beside the target; rename into place only what was checked; leave nothing behind otherwise."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from apr import _atomic
from apr.convert._target import SIDE_FILES, Target


@contextlib.contextmanager
def staging(target: Target) -> Iterator[Target]:
    """A target inside a new temporary folder beside the real one, which is removed in the end, whatever happens."""
    parent = target.path.parent
    _remove_stale(parent)
    folder = parent / f"{_atomic.PREFIX}{secrets.token_hex(6)}"
    folder.mkdir()
    try:
        yield Target(folder / target.path.name, target.format, target.is_folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(staged: Target, target: Target) -> None:
    """Rename what was written to its final name. What stood there (`_target.check` allowed it) is gone afterwards.

    A reader never sees half a model. An error puts back a folder that was to be replaced, and removes new side files.
    """
    if target.is_folder:
        _publish_folder(staged, target)
    elif target.format == "safetensors":
        _publish_beside(staged, target)
    else:
        staged.path.replace(target.path)
    _atomic.sync_folder(target.path.parent)


def _publish_folder(staged: Target, target: Target) -> None:
    old = staged.path.parent / "replaced"  # goes with the temporary folder
    if target.path.exists():
        target.path.rename(old)
    try:
        staged.path.rename(target.path)
    except BaseException:
        if old.exists():
            old.rename(target.path)
        raise


def _publish_beside(staged: Target, target: Target) -> None:
    """Side files first, weights last: the model appears when it is complete."""
    names = [name for name in SIDE_FILES if (staged.path.parent / name).exists()]
    new = [target.path.parent / name for name in names if not (target.path.parent / name).exists()]
    try:
        for name in names:
            (staged.path.parent / name).replace(target.path.parent / name)
        staged.path.replace(target.path)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def _remove_stale(parent: Path) -> None:
    """Temporary folders of writers that were killed more than a day ago."""
    oldest = time.time() - _atomic.STALE_AFTER_S
    for leftover in parent.glob(f"{_atomic.PREFIX}*"):
        with contextlib.suppress(OSError):
            if leftover.is_dir() and not leftover.is_symlink() and leftover.stat().st_mtime < oldest:
                shutil.rmtree(leftover)
