"""Weights into blocks: which, and with what importance; the bytes are those of `kernels/quants`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from apr import __version__
from apr.convert import _mixture
from apr.convert._mixture import MIXTURES, Mixture, Shape
from apr.errors import ConversionError, UsageError
from apr.formats.gguf import GgufFile
from apr.kernels import quants
from apr.models._config import ModelConfig

PROVENANCE_KEY = "apr.quantized"


@dataclass(frozen=True, slots=True)
class Importance:
    """How much each input column of a matrix weighs: an importance matrix.

    path:     the file that it was read from
    columns:  float32 [columns] by GGUF name
    datasets: what it was collected on, as the file says
    n_chunks: of text
    """

    path: str
    columns: Mapping[str, np.ndarray]
    datasets: tuple[str, ...] = ()
    n_chunks: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is quantised."""

    mixture: Mixture
    importance: Importance | None = None

    def codecs(self, tensors: Mapping[str, Sequence[int]], model: Shape) -> dict[str, str]:
        """What each tensor becomes, by GGUF name. Raises ConversionError for an importance matrix of another model."""
        if self.importance is not None:
            self._refuse_other_model(tensors, self.importance)
        return _mixture.codecs(self.mixture, tensors, model)

    def shape(self, config: ModelConfig) -> Shape:
        """What the mixture must know of a model whose configuration we read."""
        gqa = config.num_attention_heads // config.num_key_value_heads
        return Shape(config.num_hidden_layers, gqa, has_importance=self.importance is not None)

    def shape_of_gguf(self, file: GgufFile) -> Shape:
        """The same of any GGUF file, by its own keys: its architecture need not be one of ours."""
        architecture = file.metadata.get("general.architecture")

        def number(key: str, default: int) -> int:
            value = file.metadata.get(f"{architecture}.{key}", default)
            first = value if isinstance(value, int) else value[0] if len(value) else default  # an array: one a layer
            return int(first)

        heads = number("attention.head_count", 1)
        gqa = heads // max(1, number("attention.head_count_kv", heads))
        return Shape(number("block_count", 0), gqa, number("expert_count", 0), self.importance is not None)

    def provenance(self, *, source_sha256: str) -> dict[str, str | int]:
        """What the file says of how it was made; llama.cpp's keys where it has them."""
        keys: dict[str, str | int] = {
            PROVENANCE_KEY: f"{self.mixture.name} by apr {__version__} from SHA-256 {source_sha256}"
        }
        if self.importance is not None:
            keys |= {
                "quantize.imatrix.file": self.importance.path,
                "quantize.imatrix.dataset": ", ".join(self.importance.datasets),
                "quantize.imatrix.entries_count": len(self.importance.columns),
                "quantize.imatrix.chunks_count": self.importance.n_chunks,
            }
        return keys

    def encode(self, name: str, gguf_name: str, values: np.ndarray, codec: str) -> np.ndarray:
        """uint8 [n_bytes] of a tensor. Raises ConversionError for values that no block holds."""
        weights = self.importance.columns.get(gguf_name) if self.importance is not None else None
        try:
            return quants.codec(codec).encode(values, weights)
        except ValueError as exc:
            raise ConversionError(
                f"tensor {name!r}: {exc}; mend the source first, apr validate shows it whole"
            ) from exc

    def _refuse_other_model(self, tensors: Mapping[str, Sequence[int]], importance: Importance) -> None:
        for name, columns in importance.columns.items():
            if name in tensors and tensors[name][-1] != columns.size:
                raise ConversionError(
                    f"{importance.path}: {name} has {columns.size} columns, {tensors[name][-1]} in the model; it was collected on another"
                )
        if not any(name in tensors for name in importance.columns):
            raise ConversionError(f"{importance.path} names no tensor of this model; it was collected on another")


def recipe(mixture: str, importance: Importance | None = None) -> Recipe:
    """A way to quantise. Raises UsageError for a mixture that is not known, or that needs an importance matrix."""
    if mixture not in MIXTURES:
        raise UsageError(f"no mixture is called {mixture!r}; there are {', '.join(MIXTURES)}")
    if mixture == "q2_k_s" and importance is None:
        raise UsageError(
            "q2_k_s needs an importance matrix, as llama.cpp's does; give --imatrix FILE: apr imatrix makes one"
        )
    return Recipe(MIXTURES[mixture], importance)


def again(codecs: Iterable[str]) -> tuple[str, ...]:
    """A note where values are rounded that were rounded before. codecs: that the source has of what is quantised."""
    n = sum(quants.codec(codec).block_size > 1 for codec in codecs)
    if not n:
        return ()
    return (f"{n} tensors of the source were quantised already; what that lost before is no part of any measure here",)
