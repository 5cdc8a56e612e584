"""What a model file is, without decoding its weights: the facts of `apr inspect` and `apr tensors`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from apr.errors import AprError
from apr.formats._base import ModelFile, TensorInfo
from apr.kernels import quants
from apr.models._checkpoint import read_config
from apr.models._config import ModelConfig
from apr.tokenizer._template_glance import worth_parsing

_LONGEST_VALUE = 200  # characters of a metadata value that are shown


@dataclass(frozen=True, slots=True)
class DtypeShare:
    """How much of a file one encoding takes."""

    codec: str
    n_tensors: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """A model file's facts.

    config:         None for an architecture that we do not run; `warnings` says so
    tokenizer, chat_template: one line each, None if the file has none
    warnings:       (code, sentence)
    metadata:       the container's own keys, long values cut; only when asked for
    """

    path: Path
    format: str
    format_version: str
    size_bytes: int
    name: str | None
    license: str | None
    architecture: str | None
    n_tensors: int
    n_parameters: int
    config: ModelConfig | None
    dtypes: tuple[DtypeShare, ...]
    tokenizer: str | None
    chat_template: str | None
    warnings: tuple[tuple[str, str], ...]
    metadata: dict[str, Any] | None
    schema: str = field(default="apr.inspect/1")


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of a tensor's decoded values; mean, std, min and max over the finite ones."""

    mean: float
    std: float
    min: float
    max: float
    n_nan: int
    n_inf: int


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One tensor as the file has it."""

    name: str
    codec: str
    shape: tuple[int, ...]
    n_bytes: int
    offset: int
    statistics: Statistics | None = None


@dataclass(frozen=True, slots=True)
class TensorTable:
    """Some of a file's tensors. n_tensors: how many the file has in all."""

    path: Path
    n_tensors: int
    tensors: tuple[TensorRow, ...]
    schema: str = field(default="apr.tensors/1")


def inspect(file: ModelFile, *, metadata: bool = False) -> Inspection:
    """The facts of an opened file. An architecture or a key that we cannot read is a warning here, never an error."""
    warnings = [(w.code, w.message) for w in file.warnings]
    config = None
    try:
        config = read_config(file)
    except AprError as exc:
        warnings.append((exc.code, str(exc)))
    if config is not None:
        warnings += [("default", f"{key} is missing; its default is used") for key in config.defaulted]
        warnings += [("unread", f"{key} is not read by apr") for key in config.unread]
    return Inspection(
        path=file.path,
        format=file.format,
        format_version=_version(file),
        size_bytes=file.size_bytes,
        name=_text(file.metadata, "general.name", "name"),
        license=_text(file.metadata, "general.license", "license"),
        architecture=_architecture(file),
        n_tensors=len(file.tensors),
        n_parameters=sum(info.n_elements for info in file.tensors.values()),
        config=config,
        dtypes=_shares(file.tensors.values()),
        tokenizer=_tokenizer_line(file),
        chat_template=_template_line(file, warnings),
        warnings=tuple(warnings),
        metadata={key: _short(value) for key, value in file.metadata.items()} if metadata else None,
    )


def list_tensors(
    file: ModelFile,
    *,
    containing: str = "",
    limit: int = 0,
    statistics: bool = False,
    progress: Callable[[int], None] | None = None,
) -> TensorTable:
    """Tensors whose name contains a text, in the file's order; `limit` 0 is no limit.

    progress:  called with the bytes of each tensor as its row is made
    """
    chosen = [info for info in file.tensors.values() if containing in info.name]
    rows = []
    for info in chosen[:limit] if limit else chosen:
        numbers = statistics_of(file.array(info.name)) if statistics and info.codec in quants.names() else None
        rows.append(TensorRow(info.name, info.codec, info.shape, info.n_bytes, info.offset, numbers))
        if progress is not None:
            progress(info.n_bytes)
    return TensorTable(file.path, len(file.tensors), tuple(rows))


def statistics_of(values: np.ndarray) -> Statistics:
    """Statistics of float32 values of any shape, accumulated in float64."""
    is_finite = np.isfinite(values)
    n_nan = int(np.isnan(values).sum())
    finite = values if is_finite.all() else values[is_finite]
    if finite.size == 0:
        return Statistics(0.0, 0.0, 0.0, 0.0, n_nan, values.size - n_nan)
    mean, std = float(finite.mean(dtype=np.float64)), float(finite.std(dtype=np.float64))
    return Statistics(
        mean, std, float(finite.min()), float(finite.max()), n_nan, int(values.size - finite.size - n_nan)
    )


def _version(file: ModelFile) -> str:
    version = getattr(file, "version", None)
    return str(version) if version is not None else {"apr": "2.0"}.get(file.format, "")


def _architecture(file: ModelFile) -> str | None:
    if file.format == "safetensors":
        document = file.documents.get("config.json", {})
        return _text(document, "model_type")
    return _text(file.metadata, "general.architecture", "architecture", "hf_model_type", "model_type")


def _shares(infos: Iterable[TensorInfo]) -> tuple[DtypeShare, ...]:
    counts: dict[str, tuple[int, int]] = {}
    for info in infos:
        n, n_bytes = counts.get(info.codec, (0, 0))
        counts[info.codec] = (n + 1, n_bytes + info.n_bytes)
    shares = [DtypeShare(codec, n, n_bytes) for codec, (n, n_bytes) in counts.items()]
    return tuple(sorted(shares, key=lambda share: -share.n_bytes))


def _tokenizer_line(file: ModelFile) -> str | None:
    if file.format == "safetensors":
        return "tokenizer.json" if "tokenizer.json" in file.documents else None
    gguf = file.format == "gguf"
    tokens = file.metadata.get("tokenizer.ggml.tokens" if gguf else "tokenizer.vocabulary")
    if not isinstance(tokens, Sequence):
        return None
    kind = _text(file.metadata, "tokenizer.ggml.model", "tokenizer.model_type", "tokenizer.model") or "?"
    pre = _text(file.metadata, "tokenizer.ggml.pre", "tokenizer.pre_type")
    return f"{kind}{f', pre {pre}' if pre else ''}, {len(tokens)} tokens"


def _template_line(file: ModelFile, warnings: list[tuple[str, str]]) -> str | None:
    source = file.documents.get("chat_template.jinja") or _text(
        file.metadata, "tokenizer.chat_template", "chat_template"
    )
    if source is None:
        named = file.documents.get("tokenizer_config.json", {}).get("chat_template")
        source = named if isinstance(named, str) else None
    if not isinstance(source, str):
        return None
    found = []
    if worth_parsing(source):
        from apr.tokenizer.chat_template import suspicious  # brings jinja2

        found = suspicious(source)
    warnings += [("suspicious-template", f"the chat template {sentence}") for sentence in found]
    return f"{len(source)} characters{', suspicious' if found else ''}"


def _text(values: Any, *keys: str) -> str | None:
    return next((values[key] for key in keys if isinstance(values.get(key), str) and values[key]), None)


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}… ({len(value)} characters)"
    if isinstance(value, Sequence | np.ndarray):
        return f"[{len(value)} values]" if len(value) > 8 else list(value)
    return value
