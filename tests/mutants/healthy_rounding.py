"""Pairs whose weights were rounded honestly: by every encoding, weighted, twice, by way of another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

import ggml_oracle
from mutants import _quantisers
from mutants._gguf import GgufParts, Tensor
from mutants._patient_safetensors import SafetensorsPatient
from mutants._safetensors import Tensor as FolderTensor
from mutants.mutant import Healthy, Make, Planted, Ward, each

# of a name and float32 values: GGML's number of a type, and the bytes; None leaves the tensor as it is
Encode = Callable[[str, np.ndarray], tuple[int, np.ndarray] | None]
_CODECS = ("f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")


def pairs() -> list[Healthy]:
    """Those of the twins."""
    return [
        *(h for codec in _CODECS for h in each(f"rounding.{codec}", ("llama", "qwen2"), _rounded(codec))),
        *(h for codec in ("f16", "q8_0", "q4_0") for h in each(f"rounding.{codec}", ("gemma3_text", "qwen3", "phi3"), _rounded(codec))),
        *(h for codec in _quantisers.ENCODERS for h in each(f"rounding.{codec}", ("llama-wide", "qwen2-wide"), _k_rounded(codec))),
        *(h for codec in ("q4_0", "q4_1", "q5_0", "q5_1", "q4_k") for h in each(f"rounding.weighted_{codec}", ("llama-wide", "qwen2-wide"), _weighted(codec))),
        *(h for copy in ("f16", "bf16") for h in each(f"rounding.by_way_of_{copy}", ("llama", "qwen2-wide"), _by_way_of(copy))),
        *each("rounding.bf16_folder", ("llama", "qwen2", "gemma3_text"), _bf16_folder),
        *each("rounding.mixed", ("llama", "qwen2"), _mixed),
        *each("rounding.tied_q8_0", ("llama-tied",), _rounded("q8_0")),
    ]  # fmt: skip


def _rounded(codec: str) -> Make:
    """Float32 against the same weights in another encoding, by gguf-py."""

    def make(ward: Ward, pair: Healthy) -> Planted:
        reference = ward.healthy(pair.variant, "safetensors")
        return Planted(ward.subject(reference), ward.subject(ward.healthy(pair.variant, "gguf", codec=codec)))

    return make


def _k_rounded(codec: str) -> Make:
    def make(ward: Ward, pair: Healthy) -> Planted:
        return _encoded(ward, pair, lambda name, shape: codec if len(shape) == 2 else None)

    return make


def _mixed(ward: Ward, pair: Healthy) -> Planted:
    """As published files are: the embedding finer than the rest, one of the feed-forward's coarser."""

    def kind(name: str, shape: tuple[int, ...]) -> str | None:
        if len(shape) != 2:
            return None
        return "q8_0" if "embd" in name or name == "output.weight" else "q4_0" if "ffn_down" in name else "q5_1"

    return _encoded(ward, pair, kind)


def _encoded(ward: Ward, pair: Healthy, codec_of: Callable[[str, tuple[int, ...]], str | None]) -> Planted:
    def encode(name: str, values: np.ndarray) -> tuple[int, np.ndarray] | None:
        codec = codec_of(name, values.shape)
        if codec is None:
            return None
        if codec in _quantisers.ENCODERS:
            number, quantise = _quantisers.ENCODERS[codec]
            return number, quantise(values)
        kind = gguf.GGMLQuantizationType[codec.upper()]
        return int(kind), gguf.quants.quantize(values, kind)

    return _with_matrices(ward, pair, encode)


def _weighted(codec: str) -> Make:
    """Quantised by ggml with an importance matrix, of weights that were quantised before: they lie on a coarse grid."""

    def make(ward: Ward, pair: Healthy) -> Planted:
        random = np.random.default_rng(0)

        def encode(name: str, values: np.ndarray) -> tuple[int, np.ndarray] | None:
            if values.ndim != 2 or "token_embd" in name or name == "output.weight":
                return None
            importance = np.exp(2.0 * random.standard_normal(values.shape[1])).astype(np.float32)
            return int(gguf.GGMLQuantizationType[codec.upper()]), ggml_oracle.quantise(codec, values, importance)

        coarse = ward.healthy(pair.variant, "gguf", codec="q4_1")
        original = _encoded_anew(coarse, lambda _, values: (0, values), ward.folder(f"{pair.id}.decoded"))
        return _with_matrices(ward, pair, encode, original=original)

    return make


def _by_way_of(copy: str) -> Make:
    """Float32 weights, converted to half precision and quantised from that."""

    def make(ward: Ward, pair: Healthy) -> Planted:
        kinds = [gguf.GGMLQuantizationType[name] for name in (copy.upper(), "Q8_0")]

        def encode(_: str, values: np.ndarray) -> tuple[int, np.ndarray] | None:
            if values.ndim != 2:
                return None
            half = gguf.quants.dequantize(gguf.quants.quantize(values, kinds[0]), kinds[0])
            return int(kinds[1]), gguf.quants.quantize(np.ascontiguousarray(half, dtype=np.float32), kinds[1])

        return _with_matrices(ward, pair, encode)

    return make


def _with_matrices(ward: Ward, pair: Healthy, encode: Encode, *, original: Path | None = None) -> Planted:
    """A file against its copy in other encodings. original: GGUF; by default the float32 twin, and its folder is the reference."""
    candidate = _encoded_anew(original or ward.healthy(pair.variant, "gguf"), encode, ward.folder(pair.id))
    return Planted(ward.subject(original or ward.healthy(pair.variant, "safetensors")), ward.subject(candidate))


def _encoded_anew(original: Path, encode: Encode, folder: Path) -> Path:
    """A copy of a GGUF file in a new folder, its tensors encoded anew."""
    parts = GgufParts(original)
    for name, tensor in parts.tensors.items():
        rows = tensor.data.reshape(tensor.shape[0], -1)
        values = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType(tensor.kind)).astype(np.float32)
        made = encode(name, np.ascontiguousarray(values).reshape(tensor.shape))
        if made is not None:
            parts.tensors[name] = Tensor(made[0], tensor.shape, made[1].reshape(-1).view(np.uint8))
    folder.mkdir(parents=True)
    return parts.write(folder / "model.gguf")


def requantised(codec: str) -> Make:
    """A real file, decoded by gguf-py and encoded anew: the file itself is the reference."""

    def make(ward: Ward, pair: Healthy) -> Planted:
        kind = gguf.GGMLQuantizationType[codec.upper()]

        def encode(_: str, values: np.ndarray) -> tuple[int, np.ndarray] | None:
            return None if values.ndim < 2 else (int(kind), gguf.quants.quantize(values, kind))

        return _with_matrices(ward, pair, encode, original=ward.healthy(pair.variant, "gguf"))

    return make


def _bf16_folder(ward: Ward, pair: Healthy) -> Planted:
    """Rounded to nearest even, as everybody writes BF16."""
    patient = SafetensorsPatient(ward.healthy(pair.variant, "safetensors"))
    for name, tensor in patient.parts.tensors.items():
        bits = tensor.data.view("<u4").astype(np.uint64)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        patient.parts.tensors[name] = FolderTensor("BF16", tensor.shape, rounded.view(np.uint8))
    candidate = patient.save(ward.folder(pair.id))
    return Planted(ward.subject(ward.healthy(pair.variant, "gguf")), ward.subject(candidate))
