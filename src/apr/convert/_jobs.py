"""The two kinds of conversion: into another format, through the architecture; and a copy within one, which needs to know none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from apr.convert import _carried, _items, _readback, _to_apr, _to_gguf, _to_safetensors
from apr.convert._target import Target
from apr.errors import ConversionError
from apr.formats import _apr_metadata, apr, open_model
from apr.formats._base import ModelFile, Outgoing
from apr.formats.gguf import GgufFile
from apr.models._checkpoint import Checkpoint

Progress = Callable[[int], None]


class Job(Protocol):
    """A conversion that is ready to run.

    specs:    name, codec and shape of every tensor of the target, in order
    counts:   tensors by what becomes of them: kept, recoded, dequantized
    notes:    what does not come along; complete after `check`
    """

    specs: tuple[tuple[str, str, tuple[int, ...]], ...]
    counts: Counter[str]
    n_bytes: int
    notes: list[str]

    def outgoing(self, progress: Progress) -> Outgoing:
        """The target's content."""

    def check(self, path: Path, progress: Progress) -> list[str]:
        """Compare what was written with the source. Raises ConversionError."""


class Copy:
    """A copy within one format: metadata, tensors and side files as they are."""

    def __init__(self, file: ModelFile, target: Target) -> None:
        self.file = file
        # the order of the data, so that the copy of a file is that file
        infos = sorted(file.tensors.values(), key=lambda info: (str(info.path), info.offset))
        if isinstance(file, GgufFile):
            infos = list(file.tensors.values())  # offsets follow the order of the header
        self.specs = tuple((info.name, info.codec, info.shape) for info in infos)
        self.counts: Counter[str] = Counter(kept=len(infos))
        self.n_bytes = sum(info.n_bytes for info in infos)
        self.notes: list[str] = []
        if respelled := sorted(file.metadata.keys() - self._metadata().keys()):
            self.notes.append(
                f"keys that readers of .apr confuse were renamed, or dropped where empty: {', '.join(respelled)}"
            )
        if file.path.is_dir() and target.format == "safetensors":
            self.notes += _left_behind(file)

    def outgoing(self, progress: Progress) -> Outgoing:
        """The source itself."""
        return Outgoing(
            self._metadata(), self.specs, _counted(self.file.raw, self.file, progress), dict(self.file.documents)
        )

    def check(self, path: Path, progress: Progress) -> list[str]:
        """Compare the copy with its source."""
        checked = _readback.check_copy(self.file, path, progress=progress)
        with open_model(path) as written:
            wanted = {key: getattr(value, "value", value) for key, value in self._metadata().items()}
            if dict(written.metadata) != wanted or getattr(written, "value_types", {}) != getattr(
                self.file, "value_types", {}
            ):
                raise ConversionError("the metadata reads back differently")
        types = ", types included" if isinstance(self.file, GgufFile) else ""
        return [*checked, f"the metadata is the same{types}"]

    def _metadata(self) -> dict[str, Any]:
        if isinstance(self.file, GgufFile):
            return dict(self.file.typed_metadata)
        if isinstance(self.file, apr.AprFile):
            # other spellings of a dimension are renamed and empty ones dropped: readers lose all metadata over them
            dimensions = {names[0] for names in _apr_metadata.SPELLINGS}
            renamed = self.file.canonical_metadata
            return {key: value for key, value in renamed.items() if value is not None or key not in dimensions}
        return dict(self.file.metadata)


class Transcoding:
    """A conversion into another format."""

    def __init__(self, file: ModelFile, target: Target, *, dequantize: str | None) -> None:
        self.checkpoint = Checkpoint(file)
        self.target = target
        self.items = _items.plan_items(self.checkpoint, target.format, dequantize=dequantize)
        self.spec = _readback.read_spec(self.checkpoint)
        self.carried = _carried.read(self.checkpoint, self.spec)
        self.counts: Counter[str] = Counter(item.treatment for item in self.items)
        self.rope = _to_gguf.rope_tensors(self.checkpoint.config) if target.format == "gguf" else {}
        self.specs = (
            *((item.target_name, item.codec, item.shape) for item in self.items),
            *((name, "f32", values.shape) for name, values in self.rope.items()),
        )
        self.n_bytes = sum(item.n_bytes for item in self.items)
        self.notes = [*self.carried.notes, *self._notes()]

    def outgoing(self, progress: Progress) -> Outgoing:
        """The target's content, in the target's words."""
        config, spec, carried, items = self.checkpoint.config, self.spec, self.carried, self.items
        by_name = {item.target_name: item for item in items}

        def data(name: str) -> np.ndarray:
            if name in self.rope:
                return self.rope[name].astype("<f4").view(np.uint8)
            encoded = _items.encoded(self.checkpoint, by_name[name], self.target.format)
            progress(encoded.size)
            return encoded

        if self.target.format == "gguf":
            keys, notes = _to_gguf.metadata(config, spec, carried, items)
            self.notes += notes
            return Outgoing(keys, self.specs, data)
        if self.target.format == "apr":
            return Outgoing(_to_apr.metadata(self.checkpoint, spec, carried, items), self.specs, data)
        documents = _to_safetensors.documents(config, spec, carried, items)
        return Outgoing(_to_safetensors.metadata(carried), self.specs, data, documents)

    def check(self, path: Path, progress: Progress) -> list[str]:
        """Compare what was written with the source, tensor by tensor."""
        checked, notes = _readback.check(self.checkpoint, self.spec, path, self.items, progress=progress)
        self.notes += notes
        return checked

    def _notes(self) -> Iterator[str]:
        head = "lm_head.weight"
        is_tied = self.checkpoint.config.tie_word_embeddings
        if is_tied and self.target.format == "apr":
            yield f"{head} was written as a copy of the embedding, to which it is tied"
        if is_tied and self.target.format != "apr" and head in self.checkpoint.tensors:
            yield f"{head}, a copy of the embedding, was left out: the target ties it"
        if dropped := sorted(name for name in self.checkpoint.extra if name not in self.rope):
            yield f"{', '.join(dropped[:4])}: left out, the configuration says the same"
        recoded = [item for item in self.items if item.treatment == "recoded"]
        moved = [item for item in recoded if _items.is_shifted(self.checkpoint, item.name, self.target.format)]
        if moved and self.target.format == "gguf":
            yield f"{len(moved)} norms were written as the factors 1 + w that the forward pass multiplies by, in f32"
        elif moved:
            yield f"{len(moved)} norms were written as factors less 1, exactly, as this format has them"
        if len(recoded) > len(moved):
            yield f"{len(recoded) - len(moved)} norm and bias tensors were widened to f32, which holds their values exactly"


def job_for(file: ModelFile, target: Target, *, dequantize: str | None) -> Job:
    """The conversion of an opened file into a target.

    Raises ConversionError (tensors that the target cannot hold), UnsupportedError, MissingTensor, ShapeMismatch, TokenizerError.
    """
    if file.format == target.format:
        return Copy(file, target)
    return Transcoding(file, target, dequantize=dequantize)


def _counted(raw: Callable[[str], np.ndarray], file: ModelFile, progress: Progress) -> Callable[[str], np.ndarray]:
    def data(name: str) -> np.ndarray:
        progress(file.tensors[name].n_bytes)
        return raw(name)

    return data


def _left_behind(file: ModelFile) -> list[str]:
    """Files of a folder that are neither weights nor side files of the closed list."""
    known = {*file.documents, *(path.name for path in file.files), "model.safetensors.index.json"}
    others = sorted(
        path.name for path in file.path.iterdir() if path.name not in known and not path.name.startswith(".")
    )
    return [f"files that are not copied: {', '.join(others[:8])}"] if others else []
