"""Which model was tested: the SHA-256 of each of its files, and of what its tensors hold.

The digest of the tensors is the SHA-256 of a listing, a line of JSON a tensor, sorted by name: [name, codec, shape, SHA-256 of
its encoded bytes]. Metadata, order, padding and shards are not in it: a container that is packed anew keeps it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apr.errors import UsageError

if TYPE_CHECKING:
    from apr.formats._base import ModelFile

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Subject:
    """A model, known by its content.

    name:            of its file or folder, without what lies above it
    path:            as it was given
    format:          gguf, safetensors or apr
    files:           SHA-256 by name, of the files with tensors and of the side files that say how to run them
    tensors_sha256:  of the listing of its tensors
    n_tensors:       lines of that listing
    """

    name: str
    path: str
    format: str
    files: dict[str, str]
    tensors_sha256: str
    n_tensors: int

    @classmethod
    def of(cls, path: Path) -> Subject:
        """The model at a path. Digests are remembered until a file changes.

        Raises FormatError for what is no model, UsageError if there is nothing there, or a model without tensors.
        """
        from apr.formats import open_model
        from apr.hub import digest

        with open_model(path) as model:
            if not model.tensors:
                raise UsageError(
                    f"{path} holds no tensor; evidence is about a model's weights, name a file that has them"
                )
            folder = path if path.is_dir() else path.parent
            files = sorted({*model.files, *(folder / name for name in model.documents)})
            tensors = digest.remembered(files, "tensor listing", lambda: tensors_sha256(model))
            return cls(
                name=path.resolve().name,
                path=str(path),
                format=model.format,
                files={_relative(file, folder): digest.of_file(file) for file in files},
                tensors_sha256=tensors,
                n_tensors=len(model.tensors),
            )


def tensors_sha256(model: ModelFile) -> str:
    """The SHA-256 of a model's listing."""
    digest = hashlib.sha256()
    for line in listing(model):
        digest.update(line.encode("ascii"))
    return digest.hexdigest()


def listing(model: ModelFile) -> Iterator[str]:
    """A line of JSON a tensor, sorted by name: its name, codec, shape, and the SHA-256 of its encoded bytes."""
    for name, info in sorted(model.tensors.items()):
        content, raw = hashlib.sha256(), model.raw(name)
        for start in range(0, info.n_bytes, _CHUNK_BYTES):
            content.update(raw[start : start + _CHUNK_BYTES].data)
        del raw
        model.release(name, 0, info.n_bytes)
        # a name is whatever the file has: as ASCII, no line end or letter of it can make two listings the same text
        yield json.dumps([name, info.codec, list(info.shape), content.hexdigest()], separators=(",", ":")) + "\n"


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name
