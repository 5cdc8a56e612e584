"""Pairs of tiny models for the links that compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny
from apr.engines._subject import Subject
from apr.parity._pair import Pair


def path_of(models: Path, model_type: str = "llama", *, codec: str = "f32", **changes: Any) -> Path:
    """A tiny model in a folder, written the first time that it is asked for."""
    name = f"{model_type}-{codec}-{'-'.join(changes)}"
    if not (models / name).exists():
        tiny.write(models / name, "gguf", tiny.config(model_type, **changes), codec=codec)
    return models / name / "model.gguf"


def pair_of(opened: list[Subject], path: Path, candidate: Path | None = None, **options: Any) -> Pair:
    """A file against itself or another; a planted loader computes with NumPy. `opened` is told of both."""
    engine = options.pop("engine", "numpy" if options.get("loader") is not None else "native")
    pair = Pair(Subject(path, threads=1), Subject(candidate or path, engine, threads=1, **options))
    opened += [pair.reference, pair.candidate]
    return pair
