"""A checkpoint's weights as the compiled kernels read them, with the file's pages given up as they are copied."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from apr.kernels import _native
from apr.models._checkpoint import Checkpoint

logger = logging.getLogger(__name__)

# row-major in the file, and read there
_PLAIN = ("f32", "f16", "bf16")
_EMBEDDING = "model.embed_tokens.weight"
# bytes of the file that a thread copies at a time: what is held twice is a few of these
_CHUNK_BYTES = 4 << 20
# rows that lie side by side: csrc/kernels.h, kRowsPerBlock
_ROWS_PER_BLOCK = 16


class NativeWeights:
    """Weights by canonical name, in the forms that a plan's steps take (`_lowering.Weights`).

    progress:  called with bytes of the file as they are ready
    Raises     MissingTensor and ShapeMismatch for an incomplete checkpoint
    """

    def __init__(self, checkpoint: Checkpoint, *, threads: int, progress: Callable[[int], None] | None = None) -> None:
        checkpoint.check()
        self._checkpoint = checkpoint
        self._tables: dict[str, _native.Table] = {}
        self._matrices: dict[str, _native.Weight] = {}
        self._vectors: dict[str, np.ndarray] = {}
        self._copies: list[_Copy] = []
        decoded: set[str] = set()
        for name, shape in checkpoint.expected.items():
            self._add(name, shape, decoded)
        for codec in sorted(decoded):
            logger.info("%s has no compiled kernel: its tensors are decoded to float32", codec)
        n_bytes = {name: checkpoint.tensors[name].info.n_bytes for name in checkpoint.expected}
        with ThreadPoolExecutor(max_workers=threads) as pool:
            for copy, copied in zip(self._copies, pool.map(_Copy.run, self._copies), strict=True):
                n_bytes[copy.name] -= copied
                if progress is not None:
                    progress(copied)
        if progress is not None:
            progress(sum(n_bytes.values()))  # what is read where it lies
        self._copies.clear()

    def table(self, name: str) -> _native.Table:
        """An embedding table."""
        return self._tables[name]

    def matrix(self, name: str) -> _native.Weight:
        """What a linear op multiplies with."""
        return self._matrices[name]

    def vector(self, name: str) -> np.ndarray:
        """float32 [size]: a norm's factors, a bias."""
        return self._vectors[name]

    def _add(self, name: str, shape: tuple[int, ...], decoded: set[str]) -> None:
        """Load one tensor, or note what has to be copied for it."""
        checkpoint = self._checkpoint
        if len(shape) == 1:
            self._vectors[name] = np.ascontiguousarray(checkpoint.array(name), dtype=np.float32)
            return
        place = checkpoint.tensors[name]
        codec, (n_rows, n_columns) = place.info.codec, shape
        in_file: np.ndarray | None = None  # row-major bytes, in canonical order
        if not _has_kernel(codec, n_columns):
            decoded.add(codec)
            codec, in_file = "f32", np.ascontiguousarray(checkpoint.array(name)).reshape(-1).view(np.uint8)
        elif codec in _PLAIN or name == _EMBEDDING:
            in_file = checkpoint.raw(name)
        if name == _EMBEDDING:
            assert in_file is not None
            self._tables[name] = _native.Table(codec, n_rows, n_columns, in_file)
            if not checkpoint.config.tie_word_embeddings:
                return
        if codec in _PLAIN:
            assert in_file is not None
            self._matrices[name] = _native.Weight.in_place(codec, n_rows, n_columns, in_file)
            return
        self._matrices[name] = weight = _native.Weight(codec, n_rows, n_columns)
        row_bytes = _native.Weight.row_bytes(codec, n_columns)
        # rows that lie in another order are copied all at once, so that what has been read is a run of bytes
        step = n_rows if place.row_order is not None else _rows_of_chunk(row_bytes)
        raw = place.file.raw(place.info.name)
        for first in range(0, n_rows, step):
            rows = range(first, min(first + step, n_rows))
            self._copies.append(_Copy(checkpoint, name, weight, raw, rows, row_bytes))


@dataclass(frozen=True, slots=True)
class _Copy:
    """Rows that are to be laid out for the kernels."""

    checkpoint: Checkpoint
    name: str
    weight: _native.Weight
    raw: np.ndarray
    rows: range
    row_bytes: int

    def run(self) -> int:
        """Copy them and give up the file's pages; how many bytes of the file they were."""
        place, start, stop = self.checkpoint.tensors[self.name], self.rows.start, self.rows.stop
        self.weight.fill(self.raw, start, len(self.rows), place.row_order)
        place.file.release(place.info.name, start * self.row_bytes, stop * self.row_bytes)
        return len(self.rows) * self.row_bytes


def _has_kernel(codec: str, n_columns: int) -> bool:
    try:
        _native.Weight.row_bytes(codec, n_columns)
    except ValueError:
        return False
    return True


def _rows_of_chunk(row_bytes: int) -> int:
    return max(1, _CHUNK_BYTES // row_bytes // _ROWS_PER_BLOCK) * _ROWS_PER_BLOCK
