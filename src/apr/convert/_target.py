"""Where a conversion writes to: the format that a path asks for, and the paths that are refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apr import formats
from apr.errors import UsageError
from apr.formats import _documents
from apr.formats.safetensors import INDEX_NAME, WEIGHTS_NAME

Overwrite = Literal["refuse", "replace"]

SIDE_FILES = (*_documents.JSON_NAMES, *_documents.TEXT_NAMES)
# an ending starts with a letter: `Qwen2.5` and `SmolLM2-1.7B` are folders
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Target:
    """The path that is written, and what is put there.

    is_folder:  a safetensors folder; else one file (beside which a `.safetensors` target puts its side files)
    """

    path: Path
    format: str
    is_folder: bool

    @property
    def weights(self) -> Path:
        """The file that holds the tensors."""
        return self.path / WEIGHTS_NAME if self.is_folder else self.path


def parse(target: Path | str) -> Target:
    """A path without an ending, or with a slash behind it, is a safetensors folder. Raises UsageError for an unknown ending."""
    path = Path(target)
    names_folder = str(target).endswith(("/", os.sep)) or path.is_dir() or not _ENDING.fullmatch(path.suffix)
    return Target(path, "safetensors" if names_folder else formats.format_of(path), names_folder)


def check(target: Target, source_files: Iterable[Path], *, overwrite: Overwrite) -> None:
    """Refuse a target that is the source, that exists (unless it is to be replaced), or that cannot be written.

    Raises UsageError.
    """
    path = target.path
    if path.is_symlink():
        raise UsageError(f"{path} is a symbolic link; name what it points to, nothing is written through links")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder; create it first")
    for file in source_files:
        if _is_same(file, path) or _is_same(file, target.weights) or (target.is_folder and _is_same(file.parent, path)):
            raise UsageError(f"{path} is the source itself, or holds it; give the copy another name")
    if target.is_folder:
        _check_folder(path, overwrite=overwrite)
    else:
        _check_file(target, overwrite=overwrite)


def _check_folder(path: Path, *, overwrite: Overwrite) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"{path} is a file, expected a folder to write safetensors to; give another name")
    entries = sorted(path.iterdir())
    if entries and overwrite == "refuse":
        raise UsageError(f"{path} exists and is not empty; give another name, or let it be replaced (--overwrite)")
    # replacing removes the old folder, so it must be a model's and nothing else's
    strangers = [e for e in entries if not _is_model_file(e)]
    if strangers:
        raise UsageError(
            f"{path} holds {strangers[0].name!r}, which is no file of a model; it is not replaced, give another name"
        )


def _is_model_file(path: Path) -> bool:
    is_known = path.suffix == ".safetensors" or path.name in (*SIDE_FILES, INDEX_NAME)
    return is_known and path.is_file() and not path.is_symlink()


def _check_file(target: Target, *, overwrite: Overwrite) -> None:
    path = target.path
    taken = [path] if path.exists() else []
    if target.format == "safetensors":
        taken += [path.parent / name for name in SIDE_FILES if (path.parent / name).exists()]
    if taken and overwrite == "refuse":
        raise UsageError(f"{taken[0]} exists; give another name, or let it be replaced (--overwrite)")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a regular file; give another name")


def _is_same(one: Path, other: Path) -> bool:
    """The same file or folder, through links of both kinds."""
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))
