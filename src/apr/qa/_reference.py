"""The original beside a copy: a model of the same name in another container."""

from __future__ import annotations

from pathlib import Path

# what another container of a model is called
_SUFFIXES = (".safetensors", ".gguf", ".apr")


def beside(model: Path) -> Path | None:
    """The one file or folder in the same folder that has the model's name and another form; None if there is none, or more.

    A folder of safetensors goes before files: it is what the others were made from.
    """
    folder = model.with_suffix("")
    if model.is_file() and folder.is_dir() and any(folder.glob("*.safetensors")):
        return folder
    found = [path for suffix in _SUFFIXES if (path := model.with_suffix(suffix)) != model and path.is_file()]
    return found[0] if len(found) == 1 else None
