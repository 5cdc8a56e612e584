"""Traces kept in files: whole tensors, float32, by slot, with the trace's own header. `.npz` or `.safetensors`.

Both open without us: `numpy.load` and `safetensors.safe_open` show the slots by name, [positions, ...]. The trace itself
without its figures, which can be computed again, is JSON: in the .npz as the text `apr.trace`, in the .safetensors as its
metadata of that name. A file is written whole or not at all, and read as hostile input.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from apr import _atomic
from apr.errors import (
    BadMetadata,
    ChecksumMismatch,
    InternalError,
    ShapeMismatch,
    UnsupportedVersion,
    UsageError,
)
from apr.formats import _json
from apr.kernels._extension import native
from apr.kernels.statistics import statistics
from apr.trace import npz, tensors
from apr.trace.record import SCHEMA, SlotTrace, Trace, figures_of, parts_of, token_ids_sha256
from apr.trace.selection import Selection

SUFFIXES = (".npz", ".safetensors")
KEY = "apr.trace"  # where the trace is in its file
_MARGIN_BYTES = 1 << 20  # that a disk should still have


class _Container(Protocol):
    """An opened file of tensors: what `npz.read` and `tensors.read` give.

    text:    the bytes of the trace's JSON
    shapes:  of the tensors by slot, in the order of the file
    """

    text: bytes
    shapes: dict[str, tuple[int, ...]]

    def array(self, name: str) -> np.ndarray: ...
    def close(self) -> None: ...


class SavedTrace:
    """A trace read from a file.

    trace:   without figures: they are computed by `with_figures`
    shapes:  of the tensors by slot, in the order of the pass; the first dimension is that of the header's positions
    """

    def __init__(self, path: Path, made: Trace, container: _Container) -> None:
        self.path = path
        self.trace = made
        self.shapes = container.shapes
        self._container = container

    def array(self, slot: str) -> np.ndarray:
        """float32 [positions, ...]: a slot's values. Raises FormatError."""
        return self._container.array(slot)

    def with_figures(self, selection: Selection | None = None) -> Trace:
        """The trace with the figures of its slots, all or those of a selection, as they were when it was made."""
        slots = (selection or Selection()).choose_slots(self.shapes)
        figures = tuple(self._slot(slot) for slot in slots)
        return dataclasses.replace(self.trace, slots=figures, file=str(self.path), file_bytes=self.path.stat().st_size)

    def _slot(self, slot: str) -> SlotTrace:
        values = np.require(self.array(slot).reshape(self.shapes[slot][0], -1), np.float32, ["C", "A"])
        compiled = native()
        rows = compiled.statistics(values) if compiled is not None else statistics(values)
        layer, name = parts_of(slot)
        return SlotTrace(slot, layer, name, (values.shape[0], values.shape[1]), figures_of(rows))

    def close(self) -> None:
        """Release the file."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_trace(path: Path) -> bool:
    """Whether a path is that of a trace, and not of a model: a .npz, or a .safetensors that carries one."""
    if not path.is_file():
        return False
    return path.suffix == ".npz" or (path.suffix == ".safetensors" and tensors.has_key(path, KEY))


def load_trace(path: Path | str) -> SavedTrace:
    """Open a trace. Raises FormatError (one subclass a rule) for a file that is none, UsageError if there is none."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: a trace is a .npz or a .safetensors; make one with: apr trace MODEL --save FILE")
    container: _Container = npz.read(path, key=KEY) if path.suffix == ".npz" else tensors.read(path, key=KEY)
    try:
        made = _parsed(path, container.text)
        _check(path, made, container.shapes)
    except BaseException:
        container.close()
        raise
    return SavedTrace(path, made, container)


def check_target(path: Path) -> None:
    """Raise UsageError unless a trace can be written under this name."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: a trace is kept as .npz or .safetensors; give the file one of these endings")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder; create it first")


def tensor_bytes(made: Trace) -> int:
    """What the tensors of a trace's slots take."""
    return sum(4 * slot.shape[0] * slot.shape[1] for slot in made.slots)  # float32


class Put:
    """Takes the tensors of a file that is being written, each once, in the order of the trace's slots."""

    def __init__(self, path: Path, made: Trace, writer: npz.Writer | tensors.Writer) -> None:
        self._path = path
        self._left = {slot.slot: slot.shape for slot in made.slots}
        self._writer = writer
        self.wanted = frozenset(self._left)

    def __call__(self, slot: str, values: np.ndarray) -> None:
        """Write one slot, float32 [positions, ...]."""
        following = next(iter(self._left), None)
        if slot != following or (values.shape[0], values[0].size) != self._left.pop(slot):
            raise InternalError(f"{slot} {list(values.shape)} came where {following} was due; two passes differ")
        self._writer.put(slot, np.ascontiguousarray(values, dtype="<f4"))

    def finish(self) -> None:
        """Nothing more comes."""
        if self._left:
            raise InternalError(f"{next(iter(self._left))} did not come again; two passes differ")
        self._writer.finish()

    def abandon(self) -> None:
        """Let go of a file that will not be."""
        self._writer.abandon()


@contextlib.contextmanager
def writing(path: Path, made: Trace) -> Iterator[Put]:
    """Write a trace's file: give the block's value every slot. The file appears when the block ends without an error.

    Raises UsageError if the disk has no room for it, or the name cannot be written to.
    """
    check_target(path)
    _check_room(path, tensor_bytes(made))
    text = json.dumps(dataclasses.asdict(dataclasses.replace(made, slots=())), allow_nan=False, separators=(",", ":"))
    writer_of = npz.Writer if path.suffix == ".npz" else tensors.Writer
    with _atomic.writing(path) as file:
        put = Put(path, made, writer_of(file, path, KEY, text, [(slot.slot, slot.shape) for slot in made.slots]))
        try:
            yield put
            put.finish()
        except BaseException:
            put.abandon()
            raise


def _check_room(path: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if n_bytes + _MARGIN_BYTES > free:
        raise UsageError(
            f"{path}: the tensors take {n_bytes / 1e6:,.1f} MB, the disk has {free / 1e6:,.1f} MB left; "
            "choose fewer slots, layers or positions, or another disk"
        )


def _parsed(path: Path, text: bytes) -> Trace:
    """The trace that a file's JSON says, every field checked."""
    from pydantic import TypeAdapter, ValidationError

    found = _json.parse_object(path, text, what="the trace")
    if found.get("schema") != SCHEMA:
        raise UnsupportedVersion(path, f"a trace of the form {found.get('schema')!r:.80}, expected {SCHEMA!r}")
    try:
        return TypeAdapter(Trace).validate_json(text, strict=True)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadMetadata(path, f"the trace's {where} is wrong: {first['msg']}; the file is damaged") from exc


def _check(path: Path, made: Trace, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise FormatError unless header and tensors fit each other."""
    header = made.header
    n_ids = len(header.prompt_token_ids)
    if not all(0 <= token_id < 1 << 63 for token_id in header.prompt_token_ids):
        raise BadMetadata(path, "the trace's token ids are not all counted from 0; the file is damaged")
    if token_ids_sha256(header.prompt_token_ids) != header.token_ids_sha256:
        raise ChecksumMismatch(path, "the trace's token ids are not those of their SHA-256; the file was changed")
    if len(header.prompt_tokens) != n_ids:
        raise BadMetadata(path, f"{len(header.prompt_tokens)} token texts for {n_ids} token ids; the file is damaged")
    is_ascending = all(a < b for a, b in zip(header.positions, header.positions[1:], strict=False))
    if not header.positions or not is_ascending or header.positions[0] < 0 or header.positions[-1] >= n_ids:
        raise BadMetadata(
            path, f"positions that are not ascending within the {n_ids} of the prompt; the file is damaged"
        )
    if not shapes:
        raise BadMetadata(path, "a trace without a tensor; make it again with: apr trace MODEL --save FILE")
    for slot, shape in shapes.items():
        _check_slot(path, slot, shape, len(header.positions))


def _check_slot(path: Path, slot: str, shape: tuple[int, ...], n_positions: int) -> None:
    try:
        parts_of(slot)
    except ValueError as exc:
        raise BadMetadata(path, f"a tensor {_json.shorten(slot)}, which is not the name of a slot") from exc
    if len(shape) < 2 or shape[0] != n_positions or 0 in shape:
        message = f"slot {slot} is {list(shape)}, expected [{n_positions}, values]: one row a position"
        raise ShapeMismatch(path, message)
