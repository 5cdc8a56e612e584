"""A model file seen through its architecture: a ModelConfig, and tensors under canonical names, whatever the container.

Canonical is Hugging Face's: module paths, `[out, in]`, heads not permuted. Norm weights come as factors. GGUF's
conventions (short names, interleaved heads of Llama's q and k) are undone here and nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from apr import models
from apr.errors import BadMetadata, MissingTensor, ShapeMismatch
from apr.formats._base import ModelFile, TensorInfo
from apr.models import _config_apr, _config_gguf, _config_hf
from apr.models._config import ModelConfig

GLOBAL_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
ROPE_FACTOR_TENSORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")
# bytes or values that are compared at once
_PIECE = 1 << 22

Convention = Literal["hf", "gguf"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a canonical tensor is in the file, and what stands between its bytes and the canonical ones."""

    info: TensorInfo
    row_order: np.ndarray | None  # int64 [rows]: canonical row i is the file's row row_order[i]
    norm_offset: float  # added to the decoded values
    file: ModelFile  # where `info` lies

    def raw(self) -> np.ndarray:
        """uint8: the encoded bytes, rows in canonical order (a view where they already are)."""
        raw = self.file.raw(self.info.name)
        if self.row_order is None:
            return raw
        ordered: np.ndarray = raw.reshape(self.info.shape[0], -1)[self.row_order].reshape(-1)
        return ordered

    def array(self) -> np.ndarray:
        """float32 [shape]: decoded, rows in canonical order; norm weights as factors."""
        values = self.file.array(self.info.name)
        if self.row_order is not None:
            values = values[self.row_order]
        return values + np.float32(self.norm_offset) if self.norm_offset else values

    def release(self) -> None:
        """Give up the memory of the file's pages, which have been read; they are read from disk again when needed."""
        self.file.release(self.info.name, 0, self.info.n_bytes)


class Checkpoint:
    """An opened model file whose architecture we know.

    convention:  whose names and layouts the file uses
    tensors:     canonical name -> Place
    extra:       tensors of the file that the architecture has no place for (GGUF's rotary factors are read with the configuration)
    """

    def __init__(self, file: ModelFile, *, config: ModelConfig | None = None) -> None:
        """config: takes the place of what the file says (a counterfactual: what if it said that?)."""
        self.file = file
        is_gguf = file.format == "gguf" or any(name.startswith("blk.") for name in file.tensors)
        self.convention: Convention = "gguf" if is_gguf else "hf"
        self.config = config or read_config(file)
        self.architecture: Any = models.for_model_type(self.config.model_type).Model
        self.tensors, self.extra = self._place()

    @cached_property
    def expected(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that the architecture needs, with its shape."""
        return expected_tensors(self.config)

    def check(self) -> None:
        """Raise MissingTensor or ShapeMismatch unless the file has every tensor that the architecture needs."""
        for name, shape in self.expected.items():
            if name not in self.tensors:
                raise MissingTensor(
                    f"{self.file.path}: no tensor {name!r}, which {self.config.model_type} needs; the file is incomplete or of another architecture"
                )
            found = self.tensors[name].info.shape
            if found != shape:
                raise ShapeMismatch(
                    self.file.path, f"tensor {name!r} is {list(found)}, the configuration says {list(shape)}"
                )

    def raw(self, name: str) -> np.ndarray:
        """uint8: the encoded bytes of a canonical tensor, rows in canonical order (a view where they already are)."""
        return self.tensors[name].raw()

    def array(self, name: str) -> np.ndarray:
        """float32 [shape]: a canonical tensor, decoded; norm weights as factors."""
        return self.tensors[name].array()

    def altered(self, *, config: ModelConfig | None = None, tensors: Mapping[str, Place] | None = None) -> Checkpoint:
        """A counterfactual: this file under another configuration, or with tensors of another file in their places."""
        made = Checkpoint(self.file, config=config or self.config)
        kept = {name: place for name, place in self.tensors.items() if place.file is not self.file}
        made.tensors.update(kept | dict(tensors or {}))
        return made

    def weights(self, *, threads: int = 2, progress: Callable[[int], None] | None = None) -> dict[str, np.ndarray]:
        """Every tensor that the architecture needs, decoded, by so many threads.

        progress:  called with the bytes of each tensor that is done
        """
        self.check()
        values = {}
        with ThreadPoolExecutor(max_workers=threads) as pool:
            for name, decoded in zip(self.expected, pool.map(self.array, self.expected), strict=True):
                values[name] = decoded
                if progress is not None:
                    progress(self.tensors[name].info.n_bytes)
        return values

    def content_sha256(self) -> str:
        """SHA-256 over the canonical name, codec, shape and bytes of every tensor that is computed with, in order of name.

        Equal for two containers that hold the same encoded weights, whatever their names, order and metadata, and
        whether or not they keep a copy of a tied embedding as an output head.
        """
        total = hashlib.sha256()
        for name in sorted(self.tensors.keys() & self.expected.keys()):
            place = self.tensors[name]
            total.update(f"{name} {place.info.codec} {place.info.shape} {place.norm_offset}\n".encode())
            total.update(np.ascontiguousarray(self.raw(name)).data)
        return total.hexdigest()

    def _place(self) -> tuple[dict[str, Place], list[str]]:
        names = self._names()
        places: dict[str, Place] = {}
        extra = []
        for info in self.file.tensors.values():
            canonical = names.get(info.name)
            if canonical is None:
                if info.name not in ROPE_FACTOR_TENSORS:
                    extra.append(info.name)
                continue
            offset = (
                self.architecture.HF_NORM_OFFSET
                if self.convention == "hf" and canonical.endswith("norm.weight")
                else 0.0
            )
            places[canonical] = Place(info, self._row_order(canonical, info), offset, self.file)
        return places, extra

    def _names(self) -> dict[str, str]:
        """The file's name of each tensor we know -> its canonical name."""
        layer_names = self.architecture.LAYER_NAMES
        layers = range(self.config.num_hidden_layers)
        canonical = {
            **GLOBAL_NAMES,
            **{f"model.layers.{i}.{hf}": f"blk.{i}.{gguf}" for i in layers for hf, gguf in layer_names.items()},
        }
        return (
            {gguf: hf for hf, gguf in canonical.items()} if self.convention == "gguf" else {hf: hf for hf in canonical}
        )

    def _row_order(self, canonical: str, info: TensorInfo) -> np.ndarray | None:
        if self.convention != "gguf" or not self.architecture.GGUF_PERMUTES_QK:
            return None
        heads = {"q_proj": self.config.num_attention_heads, "k_proj": self.config.num_key_value_heads}
        module = canonical.split(".")[-2]
        if module not in heads or not info.shape or info.shape[0] % (2 * heads[module]):
            return None
        return deinterleaved_rows(info.shape[0], heads[module])


def are_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two flat arrays are equal; compared in pieces, so that nothing of their size is made."""
    pieces = range(0, one.size, _PIECE)
    return one.size == other.size and all(np.array_equal(one[i : i + _PIECE], other[i : i + _PIECE]) for i in pieces)


def deinterleaved_rows(n_rows: int, num_heads: int) -> np.ndarray:
    """int64 [n_rows]: for each canonical row, its place in a GGUF Llama file, whose heads interleave their two halves."""
    return np.arange(n_rows).reshape(num_heads, n_rows // num_heads // 2, 2).swapaxes(1, 2).reshape(-1)


def interleaved_rows(n_rows: int, num_heads: int) -> np.ndarray:
    """int64 [n_rows]: for each row of a GGUF Llama file, its canonical place; the inverse of `deinterleaved_rows`."""
    return np.arange(n_rows).reshape(num_heads, 2, n_rows // num_heads // 2).swapaxes(1, 2).reshape(-1)


def expected_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that a configuration needs, by canonical name, in the order of the forward pass."""
    architecture = models.for_model_type(config.model_type).Model
    table = (config.vocab_size, config.hidden_size)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": table}
    for layer in range(config.num_hidden_layers):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in architecture.layer_shapes(config).items()}
    shapes["model.norm.weight"] = (config.hidden_size,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = table
    return shapes


def read_config(file: ModelFile) -> ModelConfig:
    """The configuration that a model file carries. Raises BadMetadata, UnsupportedError."""
    if file.format == "gguf":
        return _config_gguf.from_gguf(
            file.path,
            file.metadata,
            shapes={name: info.shape for name, info in file.tensors.items()},
            frequency_factors={
                name: tuple(file.array(name).reshape(-1).tolist())
                for name in ROPE_FACTOR_TENSORS
                if name in file.tensors
            },
        )
    if file.format == "apr":
        tied = bool(file.metadata.get("tied_embeddings")) or not (
            {"lm_head.weight", "output.weight"} & set(file.tensors)
        )
        return _config_apr.from_apr(file.path, file.metadata, tied=tied)
    if "config.json" not in file.documents:
        raise BadMetadata(
            file.path, "no config.json beside the weights; without it the model's shape and rotary base are unknown"
        )
    return _config_hf.from_hf(file.path, file.documents["config.json"])
