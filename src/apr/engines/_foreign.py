"""What every engine that reads a model file by itself has to refuse and to say."""

from __future__ import annotations

from apr.errors import AprError, UnsupportedError
from apr.models._checkpoint import Checkpoint, read_config


def refuse_counterfactual(checkpoint: Checkpoint, *, engine: str) -> None:
    """Raise UnsupportedError unless the checkpoint is what its file says: the engine would read the file as it is."""
    try:
        is_as_read = read_config(checkpoint.file) == checkpoint.config
    except AprError:
        is_as_read = False
    if not is_as_read or any(place.file is not checkpoint.file for place in checkpoint.tensors.values()):
        raise UnsupportedError(
            f"{checkpoint.file.path}: {engine} reads the file itself, so it cannot run it with another configuration or "
            "other tensors; use the native engine, or write the change into a file first"
        )
