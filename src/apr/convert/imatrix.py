"""An importance matrix: how large the inputs of each matrix are, column by column, over a text.

What a matrix is multiplied with stands in the slots of the forward pass; the sums of their squares are what a quantiser weighs
its errors by. Source of the idea and of the names: llama.cpp, tools/imatrix (IMatrixCollector::collect_imatrix).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apr.convert import _imatrix_file, _items
from apr.convert._imatrix_file import Collected
from apr.engines._language_model import LanguageModel
from apr.errors import EngineError, UsageError
from apr.hub import digest
from apr.models._decoder import Span

SCHEMA = "apr.imatrix/1"
_LONGEST_TEXT_BYTES = 1 << 30
# the slot that a layer's matrices are multiplied with
_INPUTS = {
    "attn_norm": ("attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_qkv.weight"),
    "attn": ("attn_output.weight",),
    "ffn_norm": ("ffn_gate.weight", "ffn_up.weight"),
    "ffn_swiglu": ("ffn_down.weight",),
}
_HEAD_INPUT, _HEAD = "final_norm", "output.weight"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Imatrix:
    """An importance matrix that was collected.

    model:         as it was named
    model_sha256:  of its weights
    text, text_sha256: what was read
    n_entries:     matrices
    n_tokens:      that passed through each
    n_chunks, chunk_size: of the text, in tokens; what was left at its end was not read
    n_left:        tokens that were left
    path:          of the file
    seconds:       of wall time
    """

    model: str
    model_sha256: str
    text: str
    text_sha256: str
    n_entries: int
    n_tokens: int
    n_chunks: int
    chunk_size: int
    n_left: int
    path: Path
    seconds: float
    schema: str = SCHEMA


def collect(
    model: LanguageModel,
    token_ids: np.ndarray,
    *,
    chunk_size: int,
    limit: int | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, np.ndarray], int]:
    """Sums of squares of every matrix's input, float64 [columns] by GGUF name, and over how many tokens.

    token_ids:  int64 [n]; whole chunks of them are read, each from position 0
    limit:      chunks at most
    Raises      UsageError for less than one chunk; EngineError for an input that is not finite.
    """
    n_chunks = len(token_ids) // chunk_size
    if n_chunks == 0:
        raise UsageError(
            f"the text has {len(token_ids)} tokens, a chunk {chunk_size}; give a longer text or a smaller --chunk"
        )
    n_chunks = min(n_chunks, limit) if limit is not None else n_chunks
    known = {_items.gguf_name(model.checkpoint, name) for name in model.checkpoint.expected}
    sums: dict[str, np.ndarray] = {}

    def look(name: str, value: np.ndarray) -> np.ndarray:
        targets = [target for target in _targets(name) if target in known]
        if targets:
            squares = np.square(value.reshape(value.shape[0], -1), dtype=np.float64).sum(axis=0)
            if not np.isfinite(squares).all():
                raise EngineError(f"{name} is not finite on this text; find out where it begins: apr trace")
            for target in targets:
                sums[target] = sums[target] + squares if target in sums else squares
        return value

    for i in range(n_chunks):
        span = Span(token_ids[i * chunk_size : (i + 1) * chunk_size], model.session.new_cache())
        model.session.forward([span], tap=look, rows="all")
        if progress is not None:
            progress(i + 1, n_chunks)
    return sums, n_chunks * chunk_size


def imatrix(
    model: LanguageModel,
    text: Path,
    output: Path,
    *,
    name: str,
    chunk_size: int,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Imatrix:
    """Collect over a text and write the file. Raises as `collect`; UsageError for a text that cannot be read or is no UTF-8."""
    started = time.perf_counter()
    token_ids = np.asarray(model.tokenizer.encode(_text(text)), dtype=np.int64)
    sums, n_tokens = collect(model, token_ids, chunk_size=chunk_size, limit=limit, progress=progress)
    n_chunks = n_tokens // chunk_size
    found = Collected(
        sums={name: values.astype(np.float32) for name, values in sums.items()},
        counts=dict.fromkeys(sums, n_tokens),
        datasets=(text.name,),
        n_chunks=n_chunks,
        chunk_size=chunk_size,
    )
    _imatrix_file.write(output, found)
    return Imatrix(
        model=name,
        model_sha256=digest.of_files(model.file.files),
        text=str(text),
        text_sha256=digest.of_file(text),
        n_entries=len(sums),
        n_tokens=n_tokens,
        n_chunks=n_chunks,
        chunk_size=chunk_size,
        n_left=len(token_ids) - n_tokens,
        path=output,
        seconds=time.perf_counter() - started,
    )


def _targets(slot: str) -> tuple[str, ...]:
    """GGUF names of the matrices that a slot is the input of."""
    if slot == _HEAD_INPUT:
        return (_HEAD,)
    parts = slot.split(".")
    if len(parts) != 3:
        return ()
    return tuple(f"blk.{parts[1]}.{name}" for name in _INPUTS.get(parts[2], ()))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LONGEST_TEXT_BYTES:
            raise UsageError(f"{path} is larger than 1 GB; a few hundred thousand words are enough")
        return path.read_bytes().decode("utf-8")
    except OSError as exc:
        raise UsageError(f"{path}: {exc.strerror}; give a text file") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path}: byte {exc.start} is not UTF-8; give a text") from exc
