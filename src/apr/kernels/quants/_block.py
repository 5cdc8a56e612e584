"""The base of all codecs: a tensor is a run of equal blocks, decoded block by block.

Subclasses state the sizes and convert an array of blocks; the base counts, checks, chunks, threads and shapes.
A chunk's bytes, its float32 values and the temporaries between them stay in a core's cache, and each chunk is computed
alone, so the result does not depend on the number of threads.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np

# elements converted at a time: the float32 values and the temporaries of one chunk stay in a core's L2 cache
CHUNK_ELEMENTS = 1 << 17
# threads hand the interpreter lock over between array operations: these must be long, or two threads are slower than one
THREAD_CHUNK_ELEMENTS = 1 << 19
# tensors of fewer elements are converted on the caller's thread
THREADED_ELEMENTS = 1 << 22
MAX_THREADS = 2


class BlockCodec(ABC):
    """One way to lay weights in bytes.

    name:         the file's name, `q4_k`
    block_size:   elements in a block
    block_bytes:  bytes of a block
    ggml_type:    the type's number in GGUF, None where GGUF has none
    apr_dtype:    the type's code in `.apr` version 2 as written today, None where it has none
    uses_importance:  whether `encode` makes anything of an importance
    """

    name: ClassVar[str]
    block_size: ClassVar[int]
    block_bytes: ClassVar[int]
    ggml_type: ClassVar[int | None] = None
    apr_dtype: ClassVar[int | None] = None
    uses_importance: ClassVar[bool] = False

    @property
    def has_encoder(self) -> bool:
        """Whether `encode` works; the others are only decoded."""
        return type(self).encode_blocks is not BlockCodec.encode_blocks

    def n_bytes(self, n_elements: int) -> int:
        """Bytes that `n_elements` take. Raises ValueError unless they fill whole blocks (`row_fits` tells)."""
        n_blocks, rest = divmod(n_elements, self.block_size)
        if rest:
            raise ValueError(
                f"{n_elements} elements do not fill {self.name} blocks of {self.block_size}; choose a plain type"
            )
        return n_blocks * self.block_bytes

    def row_fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape can be stored: its rows are whole blocks."""
        return (shape[-1] if shape else 1) % self.block_size == 0

    def decode(self, raw: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """float32 [shape], decoded from `raw`, which is not changed and need be neither aligned nor contiguous.

        raw:     uint8 [n_bytes], any shape
        Raises   ValueError if the byte count is not that of the shape, or `raw` is not uint8.
        """
        blocks = self._checked(raw, shape).reshape(-1, self.block_bytes)
        out = np.empty((blocks.shape[0], self.block_size), dtype=np.float32)
        in_chunks(self.decode_blocks, blocks, out, block_size=self.block_size)
        return out.reshape(-1)[: math.prod(shape)].reshape(shape)

    @abstractmethod
    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 [n_blocks, block_size], C-contiguous, from `blocks`, uint8 [n_blocks, block_bytes]."""

    def encode(self, values: np.ndarray, importance: np.ndarray | None = None) -> np.ndarray:
        """uint8 [n_bytes] from float32 values [..., columns].

        importance:  float32 [columns]: what the error of each column counts; ignored unless `uses_importance`

        Raises  NotImplementedError for codecs that only decode (`has_encoder` tells); ValueError if the values do not
                fill whole blocks, or are such that the codec cannot hold them.
        """
        del importance
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, self.block_size)
        out = np.empty((flat.shape[0], self.block_bytes), dtype=np.uint8)
        in_chunks(self.encode_blocks, flat, out, block_size=self.block_size)
        return out.reshape(-1)

    def encode_blocks(self, values: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, uint8 [n_blocks, block_bytes], C-contiguous, from `values`, float32 [n_blocks, block_size]."""
        raise NotImplementedError(f"{self.name} is only decoded; choose a codec whose has_encoder is true")

    def _checked(self, raw: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """`raw` as contiguous uint8 [n_bytes]. Raises ValueError if it is not what `shape` takes."""
        if raw.dtype != np.uint8:
            raise ValueError(f"{self.name} is decoded from uint8, found {raw.dtype}; pass array.view(numpy.uint8)")
        expected = self.n_bytes(math.prod(shape))
        if raw.size != expected:
            raise ValueError(f"{raw.size} bytes are not {self.name} of shape {shape}, which takes {expected} bytes")
        return np.ascontiguousarray(raw).reshape(-1)


def in_chunks(
    convert: Callable[[np.ndarray, np.ndarray], None], source: np.ndarray, target: np.ndarray, *, block_size: int
) -> None:
    """Call convert(source[a:b], target[a:b]) over all blocks, a chunk at a time, on threads if there is much to do."""
    n_blocks = source.shape[0]
    threaded = MAX_THREADS > 1 and n_blocks * block_size >= THREADED_ELEMENTS
    step = max(1, (THREAD_CHUNK_ELEMENTS if threaded else CHUNK_ELEMENTS) // block_size)

    def run(start: int, stop: int) -> None:
        # a file may hold any bits: infinite scales, signalling NaNs. What comes out is data, not a cause for a warning
        with np.errstate(all="ignore"):
            for at in range(start, stop, step):
                convert(source[at : min(at + step, stop)], target[at : min(at + step, stop)])

    if not threaded:
        run(0, n_blocks)
        return
    share = step * math.ceil(n_blocks / step / MAX_THREADS)
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        runs = [pool.submit(run, start, min(start + share, n_blocks)) for start in range(0, n_blocks, share)]
    for finished in runs:
        finished.result()  # raises what the thread raised
