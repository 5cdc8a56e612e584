"""Containers of tensors and metadata on disk, read as hostile input and written atomically. One format a file.

`open_model` finds the format by the file's first bytes; an extension is never trusted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from apr import _folder
from apr.errors import BadMagic, UsageError

if TYPE_CHECKING:
    from apr.formats._base import ModelFile

_MAGIC_BYTES = 16


def open_model(path: Path | str) -> ModelFile:
    """Open a model file, or a folder of safetensors files with their side files.

    Raises FormatError (one subclass a rule) for bytes that break their format, UsageError if there is nothing there.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such file; `apr list` shows the models you have, `apr pull` fetches one")
    if path.is_dir():
        from apr.formats import safetensors

        return safetensors.read(path)
    if not path.is_file():
        from apr.errors import HostileFile

        raise HostileFile(path, "not a regular file; give the path of a model file")
    with path.open("rb") as file:
        head = file.read(_MAGIC_BYTES)
    if not head:
        raise BadMagic(path, "the file is empty, expected a model; fetch or copy it again", offset=0)
    # the format of the file's ending first: the other readers are then not even imported
    for name in sorted(_folder.names(__name__), key=lambda name: name != path.suffix[1:]):
        module = _folder.load(__name__, name)
        if module.is_mine(head):
            opened: ModelFile = module.read(path)
            return opened
    raise BadMagic(path, f"starts with {head[:8]!r}, which is none of {', '.join(_folder.names(__name__))}", offset=0)


def format_of(path: Path) -> str:
    """The format that a path to be written asks for, by its ending. Raises UsageError for any other ending."""
    known = _folder.names(__name__)
    name = path.suffix.lower().lstrip(".")
    if name not in known:
        raise UsageError(
            f"{path}: no format has the ending {path.suffix!r}; use one of: {', '.join('.' + k for k in known)}"
        )
    return name
