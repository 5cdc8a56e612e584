"""The two kinds of conversion: into another format, through the architecture; and a copy within one, which needs to know none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from apr.convert import _carried, _items, _readback, _to_apr, _to_gguf, _to_safetensors
from apr.convert._hashing import Digests
from apr.convert._items import DEQUANTIZED
from apr.convert._quantise import Recipe, again
from apr.convert._target import Target
from apr.convert._to_gguf import QUANTIZATION_VERSION
from apr.errors import ConversionError, UnsupportedError, UsageError
from apr.formats import _apr_metadata, apr, open_model
from apr.formats._base import ModelFile, Outgoing
from apr.formats.gguf import GgufFile, Typed
from apr.kernels import quants
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
    """A copy within one format: metadata, tensors and side files as they are.

    extra:  metadata that come in besides
    """

    def __init__(self, file: ModelFile, target: Target, *, extra: Mapping[str, Any] | None = None) -> None:
        self.file = file
        self.extra = dict(extra or {})
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

        def data(name: str) -> np.ndarray:
            progress(self.file.tensors[name].n_bytes)
            return self.file.raw(name)

        return Outgoing(self._metadata(), self.specs, self._in_turn(data), dict(self.file.documents))

    def _in_turn(self, data: Callable[[str], np.ndarray]) -> Callable[[str], np.ndarray]:
        return _in_turn(data, lambda name: self.file.release(name, 0, self.file.tensors[name].n_bytes))

    def check(self, path: Path, progress: Progress) -> list[str]:
        """Compare the copy with its source."""
        with open_model(path) as written:
            checked = _readback.check_copy(self.file, written, progress=progress)
            self.check_metadata(written)
        types = ", types included" if isinstance(self.file, GgufFile) else ""
        return [*checked, f"the metadata is the same{types}"]

    def check_metadata(self, written: ModelFile) -> None:
        """Raise ConversionError unless they read back as they are, with their types."""
        wanted = self._metadata()
        if dict(written.metadata) != {key: getattr(value, "value", value) for key, value in wanted.items()}:
            raise ConversionError("the metadata reads back differently")
        types: Mapping[str, str] = getattr(written, "value_types", {})
        if any(types[key] != value.kind for key, value in wanted.items() if isinstance(value, Typed)):
            raise ConversionError("the metadata reads back with other types")

    def _metadata(self) -> dict[str, Any]:
        if isinstance(self.file, GgufFile):
            return {**self.file.typed_metadata, **self.extra}
        if isinstance(self.file, apr.AprFile):
            # other spellings of a dimension are renamed and empty ones dropped: readers lose all metadata over them
            dimensions = {names[0] for names in _apr_metadata.SPELLINGS}
            renamed = self.file.canonical_metadata
            kept = {key: value for key, value in renamed.items() if value is not None or key not in dimensions}
            return kept | self.extra
        return {**self.file.metadata, **self.extra}


class Requantised(Copy):
    """A GGUF file with its matrices in other blocks: metadata, names and order as they are. Its architecture need not be one of ours."""

    def __init__(self, file: GgufFile, target: Target, *, recipe: Recipe, provenance: Mapping[str, Any]) -> None:
        added = {"general.file_type": recipe.mixture.file_type, "general.quantization_version": QUANTIZATION_VERSION}
        typed = {key: Typed("uint32", value) for key, value in added.items()}
        super().__init__(file, target, extra={**typed, **provenance})
        self.recipe = recipe
        self.digests = Digests()
        shapes = {info.name: info.shape for info in file.tensors.values()}
        self.codecs = recipe.codecs(shapes, recipe.shape_of_gguf(file))
        self.specs = tuple((name, self.codecs.get(name, codec), shape) for name, codec, shape in self.specs)
        changed = [name for name, codec, _ in self.specs if codec != file.tensors[name].codec]
        if undecoded := sorted({file.tensors[name].codec for name in changed} - set(quants.names())):
            raise UnsupportedError(
                f"{file.path}: tensors of type {', '.join(undecoded)}, which are not decoded here", known=quants.names()
            )
        self.counts = Counter(kept=len(self.specs) - len(changed), quantized=len(changed))
        self.notes += again(file.tensors[name].codec for name in changed)
        self.n_bytes = sum(_items.n_bytes(codec, shape) for _, codec, shape in self.specs)

    def outgoing(self, progress: Progress) -> Outgoing:
        """The source, its matrices quantised."""

        def data(name: str) -> np.ndarray:
            info = self.file.tensors[name]
            raw = self.file.raw(name)
            codec = self.codecs.get(name, info.codec)
            if codec != info.codec:
                raw = self.recipe.encode(name, name, self.file.array(name), codec)
                self.digests.add(name, raw)
            progress(raw.size)
            return raw

        return Outgoing(self._metadata(), self.specs, self._in_turn(data))

    def check(self, path: Path, progress: Progress) -> list[str]:
        """Compare what was written with the source, and with what was made of it."""
        with open_model(path) as written:
            checked = _readback.check_requantised(
                self.file, written, self.specs, digests=self.digests.all(), progress=progress
            )
            self.check_metadata(written)
        return [*checked, "the metadata is the same, types included, but for what says how the file was made"]


class Transcoding:
    """A conversion into another format."""

    def __init__(
        self,
        file: ModelFile,
        target: Target,
        *,
        dequantize: str | None,
        recipe: Recipe | None,
        provenance: Mapping[str, Any],
    ) -> None:
        self.checkpoint = Checkpoint(file)
        self.target = target
        self.recipe = recipe
        self.provenance = provenance
        self.digests = Digests()
        self.items = _items.plan_items(self.checkpoint, target.format, dequantize=dequantize, recipe=recipe)
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
            item = by_name[name]
            if item.treatment == "quantized" and self.recipe is not None:
                raw = _items.quantised(self.checkpoint, item, self.target.format, self.recipe)
                self.digests.add(item.name, raw)
                encoded = _items.in_order(self.checkpoint, item, raw, self.target.format)
            else:
                encoded = _items.encoded(self.checkpoint, item, self.target.format)
            progress(encoded.size)
            return encoded

        def release(name: str) -> None:
            if name in by_name:
                self.checkpoint.tensors[by_name[name].source_name].release()

        in_turn = _in_turn(data, release)
        if self.target.format == "gguf":
            keys, notes = _to_gguf.metadata(config, spec, carried, items)
            self.notes += notes
            if self.recipe is not None:
                keys["general.file_type"] = self.recipe.mixture.file_type
            return Outgoing({**keys, **self.provenance}, self.specs, in_turn)
        if self.target.format == "apr":
            keys = _to_apr.metadata(self.checkpoint, spec, carried, items)
            return Outgoing({**keys, **self.provenance}, self.specs, in_turn)
        documents = _to_safetensors.documents(config, spec, carried, items)
        said = {key: str(value) for key, value in self.provenance.items()}
        return Outgoing({**_to_safetensors.metadata(carried), **said}, self.specs, in_turn, documents)

    def check(self, path: Path, progress: Progress) -> list[str]:
        """Compare what was written with the source, tensor by tensor."""
        checked, notes = _readback.check(
            self.checkpoint, self.spec, path, self.items, digests=self.digests.all(), progress=progress
        )
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
        quantised = [item for item in self.items if item.treatment == "quantized"]
        yield from again(item.source_codec for item in quantised)
        plain = [item for item in quantised if item.codec == "f16"]
        if plain and self.recipe is not None and self.recipe.mixture.base != "f16":
            yield f"{len(plain)} tensors became f16: {self.target.format} has no blocks of the mixture that their rows fit"
        recoded = [item for item in self.items if item.treatment == "recoded"]
        moved = [item for item in recoded if _items.is_shifted(self.checkpoint, item.name, self.target.format)]
        if moved and self.target.format == "gguf":
            yield f"{len(moved)} norms were written as the factors 1 + w that the forward pass multiplies by, in f32"
        elif moved:
            yield f"{len(moved)} norms were written as factors less 1, exactly, as this format has them"
        if len(recoded) > len(moved):
            yield f"{len(recoded) - len(moved)} norm and bias tensors were widened to f32, which holds their values exactly"


def job_for(
    file: ModelFile, target: Target, *, dequantize: str | None, recipe: Recipe | None = None, source_sha256: str = ""
) -> Job:
    """The conversion of an opened file into a target.

    Raises ConversionError (tensors that the target cannot hold), UnsupportedError, MissingTensor, ShapeMismatch, TokenizerError;
    UsageError for a target that holds no blocks.
    """
    if recipe is None and file.format == target.format:
        return Copy(file, target)
    if recipe is not None and target.format == "safetensors" and recipe.mixture.base not in DEQUANTIZED:
        raise UsageError(
            f"safetensors holds no quantised blocks; write .gguf or .apr, or take {', '.join(DEQUANTIZED)}"
        )
    provenance = recipe.provenance(source_sha256=source_sha256) if recipe is not None else {}
    if recipe is not None and isinstance(file, GgufFile) and target.format == "gguf":
        return Requantised(file, target, recipe=recipe, provenance=provenance)
    return Transcoding(file, target, dequantize=dequantize, recipe=recipe, provenance=provenance)


def _in_turn(data: Callable[[str], np.ndarray], release: Callable[[str], None]) -> Callable[[str], np.ndarray]:
    """`data`, which gives up the memory of what it was asked for last: that has been written by then."""
    last: list[str] = []

    def next_data(name: str) -> np.ndarray:
        while last:
            release(last.pop())
        last.append(name)
        return data(name)

    return next_data


def _left_behind(file: ModelFile) -> list[str]:
    """Files of a folder that are neither weights nor side files of the closed list."""
    known = {*file.documents, *(path.name for path in file.files), "model.safetensors.index.json"}
    others = sorted(
        path.name for path in file.path.iterdir() if path.name not in known and not path.name.startswith(".")
    )
    return [f"files that are not copied: {', '.join(others[:8])}"] if others else []
