"""safetensors: a JSON header, then raw tensors; as one file, as shards under an index, or as a folder with side files.

    8 bytes    u64, little-endian: n, the length of the header
    n bytes    {"__metadata__": {str: str}, NAME: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
    the rest   tensor data; offsets count from its start, and cover it without overlap and without a hole

Source: the README of huggingface/safetensors and its `tensor.rs` (0.8). All that its reader refuses is refused here.
Refused here and not there: a name twice, an empty name or one with a NUL, a field that the format does not define, an
entry written as a list, white space before the header, a null `__metadata__`, more than eight dimensions.
The format has no checksum and no version. Names of tensors are never used as paths.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from apr import _atomic
from apr.errors import (
    BadMagic,
    BadMetadata,
    BadString,
    DuplicateName,
    FormatError,
    InternalError,
    LimitExceeded,
    OverlappingTensors,
    ShapeMismatch,
    TensorOutOfBounds,
    TrailingBytes,
    TruncatedFile,
    UnknownDtype,
    UnsupportedError,
    UsageError,
)
from apr.formats import _documents, _json
from apr.formats._base import MAX_DIMS, MappedFile, ModelFile, Outgoing, TensorInfo, Warned
from apr.formats._json import shorten

MAX_HEADER_BYTES = 100_000_000  # tensor.rs, MAX_HEADER_SIZE
MAX_INDEX_BYTES = 64 << 20
MAX_SHARDS = 1000  # each keeps a file open; the largest models have under 200
MAX_ELEMENTS = 1 << 56  # NumPy cannot shape more, not even an array that another dimension of 0 makes empty

# bits of one element: tensor.rs, Dtype::bitsize
BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64},
    **{"F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8},
    **{"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4},
}
ENTRY_FIELDS = {"dtype", "shape", "data_offsets"}

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

# name, codec and shape: an element of Outgoing.tensors
Spec = tuple[str, str, tuple[int, ...]]


class SafetensorsFile(ModelFile):
    """A safetensors model: `metadata` is the `__metadata__` of the file or all shards, codecs = lower-case dtype."""

    format = "safetensors"

    def verify(self) -> list[str]:
        """Nothing: the format has no checksum."""
        return []


def is_mine(head: bytes) -> bool:
    """Whether a file that starts with `head` (nine bytes or more) is a safetensors file or an index of shards.

    No other magic passes for a length: `GGUF`, `PK` of a zip, and `APR` with its version are beyond the format's limit.
    """
    return _is_weights(head) or _is_index(head)


def read(path: Path) -> SafetensorsFile:
    """Open a weights file, an index of shards, or a folder; the side files beside it are read as well.

    A folder is searched for `model.safetensors.index.json`, then `model.safetensors`, then the only `*.safetensors`.
    Raises FormatError (one subclass a rule), UsageError if a folder holds no model, or several.
    """
    main = _main_file(path) if path.is_dir() else path
    model = SafetensorsFile(path)
    try:
        if main.name == INDEX_NAME or _is_index(bytes(model.map(main).buffer[:16])):
            model.close()  # forget the index: it holds no tensors
            _read_shards(model, main)
        else:
            model.metadata, model.tensors = read_weights(model.map(main))
        model.documents = _documents.read_documents(main.parent)
    except BaseException:
        model.close()
        raise
    model.warnings += _warnings(model, main)
    return model


def write(path: Path, model: Outgoing) -> None:
    """Write `model` to a `.safetensors` file, or to `model.safetensors` in a folder, which is created if need be.

    Documents go beside the weights and are in place before they appear; an error in `model.data` leaves nothing.
    Raises UnsupportedError for a codec that the format does not have, FormatError for what no reader would accept,
    UsageError where the folder holds another model.
    """
    is_file = path.suffix == ".safetensors" and not path.is_dir()
    folder, name = (path.parent, path.name) if is_file else (path, WEIGHTS_NAME)
    documents = _documents.encode_documents(model.documents)
    _check_neighbours(folder, name, documents)
    with contextlib.nullcontext() if is_file else _made(folder):
        _write_weights(folder / name, model, model.tensors, documents)


def write_sharded(folder: Path, model: Outgoing, *, max_shard_bytes: int) -> None:
    """Write `model` to a folder in shards of at most `max_shard_bytes` of data each, and their index, which comes last.

    A tensor is never divided: one that is larger than the limit has a shard of its own. An error leaves no shard.
    Raises what `write` raises, and UsageError if the folder already holds weights.
    """
    if any(folder.glob("*.safetensors*")):
        raise UsageError(f"{folder} already holds a model; write to another folder")
    documents = _documents.encode_documents(model.documents)
    shards = _plan_shards(folder, model.tensors, max_shard_bytes=max_shard_bytes)
    weight_map = {spec[0]: name for name, shard in shards.items() for spec in shard}
    if len(weight_map) != len(model.tensors):
        raise DuplicateName(folder, "two tensors are to be written under one name; give each its own")
    total_size = sum(_n_bytes(folder, *spec) for spec in model.tensors)
    index = _documents.to_json({"metadata": {"total_size": total_size}, "weight_map": weight_map})
    with _made(folder, leaving_none_of=shards):
        for name, shard in shards.items():
            _write_weights(folder / name, model, shard, {})
        _documents.write_encoded(folder, documents | {INDEX_NAME: index})


# ---- reading


@dataclass(frozen=True, slots=True)
class _Header:
    """A parsed header and what the rest of the file must agree with.

    text:     its bytes, which lie at byte 8 of the file
    entries:  the tensors, by name: whatever JSON had
    """

    path: Path
    text: bytes
    metadata: dict[str, str]
    entries: dict[str, Any]
    file_size: int

    @property
    def data_start(self) -> int:
        return 8 + len(self.text)

    def error(self, kind: type[FormatError], name: str, message: str) -> FormatError:
        """An error about one tensor, with the byte where the header names it."""
        return kind(self.path, f"tensor {shorten(name)} {message}", offset=8 + _json.find_key(self.text, name))


def _is_weights(head: bytes) -> bool:
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= MAX_HEADER_BYTES


def _is_index(head: bytes) -> bool:
    """JSON text: has no NUL, of which a length under 2**32 has four."""
    return head.lstrip(b" \t\r\n").startswith(b"{") and b"\0" not in head[:8]


def _main_file(folder: Path) -> Path:
    """The file of a folder that says what the model is."""
    for name in (INDEX_NAME, WEIGHTS_NAME):
        if (folder / name).exists():
            return folder / name
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise UsageError(f"{folder} holds no .safetensors file; give the folder, or the file, of a model")
    if len(found) > 1:
        raise UsageError(f"{folder} has {len(found)} weights files, {found[0].name} ..., and no {INDEX_NAME}; name one")
    return found[0]


def read_weights(mapped: MappedFile) -> tuple[dict[str, str], dict[str, TensorInfo]]:
    """The metadata, and the tensors in the order of their data, of one file."""
    if mapped.size < 8:
        raise TruncatedFile(mapped.path, f"{mapped.size} bytes, a header's length takes 8", offset=mapped.size)
    n = int.from_bytes(mapped.buffer[:8], "little")
    if n > MAX_HEADER_BYTES:
        message = f"a header of {n} bytes, the limit is {MAX_HEADER_BYTES}; this is not a safetensors file"
        raise LimitExceeded(mapped.path, message, offset=0)
    if n > mapped.size - 8:
        message = f"a header of {n} bytes, the file has {mapped.size - 8} more; the download is probably cut short"
        raise TruncatedFile(mapped.path, message, offset=0)
    header = _parse_header(mapped.path, bytes(mapped.buffer[8 : 8 + n]), file_size=mapped.size)
    return header.metadata, {info.name: info for info in _to_tensors(header)}


def _parse_header(path: Path, text: bytes, *, file_size: int) -> _Header:
    if not text.startswith(b"{"):
        raise BadMagic(path, f"{text[:4]!r} where a header starts with '{{'; this is not a safetensors file", offset=8)
    entries = _json.parse_object(path, text, offset=8, what="header", max_bytes=MAX_HEADER_BYTES)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        at = 8 + _json.find_key(text, "__metadata__")
        raise BadMetadata(path, f"__metadata__ is {shorten(metadata)}, expected texts by name", offset=at)
    return _Header(path, text, metadata, entries, file_size)


def _to_tensors(header: _Header) -> list[TensorInfo]:
    """The tensors in the order of their data, which they cover exactly."""
    infos = sorted((_to_tensor(header, name) for name in header.entries), key=lambda info: (info.offset, info.n_bytes))
    end = header.data_start
    for info in infos:
        if info.offset != end:
            what = "it overlaps the tensor before it" if info.offset < end else "it leaves a hole"
            raise header.error(OverlappingTensors, info.name, f"starts at byte {info.offset}, expected {end}: {what}")
        end += info.n_bytes
    if end != header.file_size:
        message = f"{header.file_size - end} bytes follow the last tensor; the format allows none"
        raise TrailingBytes(header.path, message, offset=end)
    return infos


def _to_tensor(header: _Header, name: str) -> TensorInfo:
    """One entry of the header, checked against the type's size and the file's."""
    if not name or "\0" in name:
        raise header.error(BadString, name, "has a name that is empty or holds a NUL; write the file again")
    entry = header.entries[name]
    if not isinstance(entry, dict) or entry.keys() != ENTRY_FIELDS:
        raise header.error(BadMetadata, name, f"is {shorten(entry)}, expected dtype, shape, data_offsets and no more")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise header.error(BadMetadata, name, f"has the dtype {shorten(dtype)}, expected a text")
    if dtype not in BITS:
        raise header.error(UnknownDtype, name, f"has the dtype {shorten(dtype)}, expected one of {', '.join(BITS)}")
    if not _are_counts(shape):
        raise header.error(BadMetadata, name, f"has the shape {shorten(shape)}, expected a list of counts")
    if len(shape) > MAX_DIMS:
        raise header.error(LimitExceeded, name, f"has {len(shape)} dimensions, the limit is {MAX_DIMS}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise header.error(BadMetadata, name, f"has the data_offsets {shorten(offsets)}, expected [begin, end]")
    begin, end = offsets
    if math.prod(size or 1 for size in shape) > MAX_ELEMENTS or math.prod(shape) * BITS[dtype] != 8 * (end - begin):
        message = f"has the shape {shape} of {BITS[dtype]} bits each, which are not the {end - begin} bytes it has"
        raise header.error(ShapeMismatch, name, message)
    if header.data_start + end > header.file_size:
        message = f"ends at byte {header.data_start + end}, the file has {header.file_size}; it is probably cut short"
        raise header.error(TensorOutOfBounds, name, message)
    return TensorInfo(name, dtype.lower(), tuple(shape), header.data_start + begin, end - begin, header.path)


def _are_counts(values: object) -> bool:
    """Whether `values` is a list of integers from 0 on; True and 1.0 are none."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 64 for value in values)


def _read_shards(model: SafetensorsFile, path: Path) -> None:
    """Fill `model` from the shards that the index at `path` names; index and shards must agree on every tensor."""
    index = _json.parse_object(path, _documents.read_limited(path, max_bytes=MAX_INDEX_BYTES), what="index")
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadMetadata(path, "has no weight_map of tensors to files; give the folder, the weights or their index")
    for shard in _shard_paths(path, weight_map):
        metadata, tensors = read_weights(model.map(shard))
        if twice := sorted(tensors.keys() & model.tensors.keys()):
            raise DuplicateName(shard, f"tensor {shorten(twice[0])} is in {model.tensors[twice[0]].path.name} as well")
        model.tensors |= tensors
        model.metadata = metadata | dict(model.metadata)  # in practice equal; else the first shard's word counts
    held = {name: info.path.name for name, info in model.tensors.items()}
    if wrong := sorted(name for name in held | weight_map if held.get(name) != weight_map.get(name)):
        claimed, found = weight_map.get(wrong[0], "not in the index"), held.get(wrong[0], "in none of the shards")
        message = f"tensor {shorten(wrong[0])} should be {shorten(claimed)} and is {shorten(found)}"
        raise BadMetadata(path, f"{message}; {len(wrong)} disagree, shards and index are of different models")
    announced, total_size = index.get("metadata"), sum(info.n_bytes for info in model.tensors.values())
    if isinstance(announced, dict) and announced.get("total_size", total_size) != total_size:
        # legal: old writers counted shared tensors twice, and every byte has been checked without it
        message = (
            f"the index announces {shorten(announced['total_size'])} bytes of tensors, the shards hold {total_size}"
        )
        model.warnings.append(Warned("total-size-differs", message))


def _shard_paths(path: Path, weight_map: Mapping[str, object]) -> list[Path]:
    """The shards, in the order of their names. A name is that of a file in the index's own folder, and nothing else."""
    names = {value if isinstance(value, str) else "" for value in weight_map.values()}
    if len(names) > MAX_SHARDS:
        raise LimitExceeded(path, f"names {len(names)} shards, the limit is {MAX_SHARDS}")
    for name in sorted(names):
        is_plain = PurePosixPath(name).name == PureWindowsPath(name).name == name not in ("", "..")
        if not is_plain or "\0" in name or len(name.encode()) > 255:
            raise BadMetadata(path, f"names the shard {shorten(name)}, expected the plain name of a file beside it")
        if not (path.parent / name).exists():
            raise TruncatedFile(path, f"names the shard {name}, which is not beside it; fetch the model again")
    return [path.parent / name for name in sorted(names)]


def _warnings(model: SafetensorsFile, main: Path) -> Iterator[Warned]:
    """What is legal and still worth knowing about the files around the one that was opened."""
    if "tokenizer.json" not in model.documents and (main.parent / "tokenizer.model").exists():
        message = "tokenizer.model is not read and there is no tokenizer.json; transformers makes one from the other"
        yield Warned("tokenizer-model-only", message)
    if main.suffix == ".safetensors" and (main.parent / INDEX_NAME).exists():
        yield Warned("one-shard", f"{main.name} may be one shard of several; open its folder for the whole model")


# ---- writing


def _write_weights(path: Path, model: Outgoing, specs: Sequence[Spec], documents: Mapping[str, bytes]) -> None:
    """Write one file of tensors of `model`; `documents` appear after its last byte is written and before its name."""
    header = _encode_header(path, model.metadata, specs)
    with _atomic.writing(path) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name, codec, shape in specs:
            encoded, n_bytes = model.data(name), _n_bytes(path, name, codec, shape)
            if encoded.dtype != np.uint8 or encoded.size != n_bytes:
                raise InternalError(f"tensor {name!r} came as {encoded.size} {encoded.dtype}, expected {n_bytes} uint8")
            file.write(np.ascontiguousarray(encoded).data)
        _documents.write_encoded(path.parent, documents)


def _check_neighbours(folder: Path, name: str, documents: Mapping[str, bytes]) -> None:
    """Refuse to write where the new file would not be found, or would change what another model's file means."""
    if (folder / INDEX_NAME).exists():
        raise UsageError(f"{folder} holds {INDEX_NAME}, which readers prefer to {name}; write to another folder")
    others = sorted(path.name for path in folder.glob("*.safetensors") if path.name != name)
    taken = [document for document in documents if (folder / document).exists()]
    if others and taken:
        raise UsageError(f"{folder} holds {others[0]} with a {taken[0]} of its own; write to another folder")


def _encode_header(path: Path, metadata: Mapping[str, Any], specs: Sequence[Spec]) -> bytes:
    """The JSON of a header, filled up with spaces so that the data starts at a multiple of 8, as tensor.rs has it."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, codec, shape in specs:
        if name in entries:
            raise DuplicateName(path, f"tensor {shorten(name)} is to be written twice; give each its own name")
        begin, end = end, end + _n_bytes(path, name, codec, shape)
        entries[name] = {"dtype": codec.upper(), "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    _to_tensors(_parse_header(path, text, file_size=8 + len(text) + end))  # nothing is written that we would not read
    return text


def _n_bytes(path: Path, name: str, codec: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor. Raises UnsupportedError for a codec without a dtype, ShapeMismatch if they are not whole."""
    if codec.upper() not in BITS:
        message = f"{path}: tensor {name!r} is {codec}, which safetensors does not have"
        raise UnsupportedError(message, known=[dtype.lower() for dtype in BITS])
    n_bytes, rest = divmod(math.prod(shape) * BITS[codec.upper()], 8)
    if rest:
        raise ShapeMismatch(path, f"tensor {name!r} of shape {list(shape)} in {codec} does not fill whole bytes")
    return n_bytes


def _plan_shards(folder: Path, specs: Sequence[Spec], *, max_shard_bytes: int) -> dict[str, list[Spec]]:
    """File names and their tensors, in order, cut where the next one would not fit."""
    shards: list[list[Spec]] = [[]]
    room = max_shard_bytes
    for spec in specs:
        n_bytes = _n_bytes(folder, *spec)
        if n_bytes > room and shards[-1]:
            shards.append([])
            room = max_shard_bytes
        shards[-1].append(spec)
        room -= n_bytes
    return {f"model-{i:05d}-of-{len(shards):05d}.safetensors": shard for i, shard in enumerate(shards, start=1)}


@contextlib.contextmanager
def _made(folder: Path, *, leaving_none_of: Iterable[str] = ()) -> Iterator[None]:
    """The folder, made if it is not there. If its writer fails, those files go, and so does a new folder that is empty.

    Raises UsageError if it is a file, or would be the second folder to make.
    """
    is_new = not folder.exists()
    if not (folder.parent if is_new else folder).is_dir():
        raise UsageError(f"{folder} is a file, or stands in no folder; give a new name in a folder that exists")
    folder.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        for name in leaving_none_of:
            (folder / name).unlink(missing_ok=True)
        if is_new:
            with contextlib.suppress(OSError):  # not empty: somebody else's file is in it
                folder.rmdir()
        raise
