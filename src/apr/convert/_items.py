"""What becomes of each tensor on its way into another format: its new name, its encoding, and its bytes.

A tensor is kept (the same bytes, up to the order of rows), recoded (another exact form of the same values: a norm as F32, with or without its
offset), or dequantised or quantised, which happen only on request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apr.convert._quantise import Recipe
from apr.errors import ConversionError, UnsupportedError
from apr.formats._ggml_types import NUMBERS as GGML_NUMBERS
from apr.formats.safetensors import BITS
from apr.kernels import quants
from apr.models._checkpoint import GLOBAL_NAMES, ROPE_FACTOR_TENSORS, Checkpoint, are_same, interleaved_rows

Treatment = Literal["kept", "recoded", "dequantized", "quantized"]
Dequantize = Literal["f32", "f16", "bf16"]

APR_CODECS = ("f32", "f16", "bf16", "q4_k", "q6_k")  # what every reader of `.apr` decodes
DEQUANTIZED = ("f32", "f16", "bf16")
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Item:
    """One tensor of the target.

    name:         canonical
    source_name:  canonical name of the tensor that it is made from: itself, but for a head tied to the embedding
    target_name:  as the target spells it
    """

    name: str
    source_name: str
    target_name: str
    source_codec: str
    codec: str
    shape: tuple[int, ...]
    treatment: Treatment

    @property
    def n_bytes(self) -> int:
        """Bytes of its data in the target."""
        return n_bytes(self.codec, self.shape)


def plan_items(
    checkpoint: Checkpoint, target_format: str, *, dequantize: str | None, recipe: Recipe | None = None
) -> tuple[Item, ...]:
    """Every tensor that the target gets, in the order of the forward pass.

    Raises ConversionError for tensors that the target cannot hold (unless `dequantize` says as what), or that the architecture has no place for;
    MissingTensor, ShapeMismatch for an incomplete source.
    """
    checkpoint.check()
    refuse_strangers(checkpoint)
    sources = {name: name for name in checkpoint.expected}
    if target_format == "apr":
        sources.setdefault(_HEAD, _EMBEDDING)  # readers of `.apr` want a head even where it is tied
    chosen = {} if recipe is None else _chosen(checkpoint, sources, target_format, recipe)
    items = tuple(
        _item(checkpoint, name, source, target_format, dequantize or "f32", chosen.get(name))
        for name, source in sources.items()
    )
    _refuse_undecodable(checkpoint, items)
    if dequantize is None:
        _refuse_losses(checkpoint, items, target_format)
    return items


def holds(target_format: str, codec: str) -> bool:
    """Whether a format has a type for these blocks."""
    if target_format == "gguf":
        return codec in GGML_NUMBERS
    return codec in APR_CODECS if target_format == "apr" else codec.upper() in BITS


def n_bytes(codec: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor in a codec that we decode, or of a plain type that only safetensors has."""
    count = 1
    for size in shape:
        count *= size
    return quants.codec(codec).n_bytes(count) if codec in quants.names() else count * BITS[codec.upper()] // 8


def refuse_strangers(checkpoint: Checkpoint) -> None:
    """Raise ConversionError for tensors that the conversion would have to leave out."""
    strangers = [name for name in checkpoint.extra if not is_rope_tensor(name)]
    strangers += [name for name in checkpoint.tensors if name not in checkpoint.expected and name != _HEAD]
    if strangers:
        raise ConversionError(
            f"{checkpoint.file.path}: {len(strangers)} tensors have no place in {checkpoint.config.model_type}: {', '.join(strangers[:8])}; "
            "leaving them out would change the model, so nothing was written; remove them from the source first"
        )
    if _HEAD in checkpoint.tensors and _HEAD not in checkpoint.expected:
        head, embedding = checkpoint.tensors[_HEAD].info, checkpoint.tensors[_EMBEDDING].info
        is_copy = head.codec == embedding.codec and are_same(checkpoint.raw(_HEAD), checkpoint.raw(_EMBEDDING))
        for name in (_HEAD, _EMBEDDING):
            checkpoint.tensors[name].release()
        if not is_copy:
            raise ConversionError(
                f"{checkpoint.file.path}: the configuration ties the output head to the embedding, and the file holds another {_HEAD}; "
                "set tie_word_embeddings to false if it is meant, or remove the tensor"
            )


def is_rope_tensor(name: str) -> bool:
    """Tensors that repeat what the configuration says about rotary frequencies."""
    return name in ROPE_FACTOR_TENSORS or name.endswith("rotary_emb.inv_freq")


def encoded(checkpoint: Checkpoint, item: Item, target_format: str) -> np.ndarray:
    """uint8 [n_bytes]: an item's data as the target wants it.

    Raises ConversionError for values that the target's type or convention cannot hold; UnsupportedError for blocks that we cannot decode.
    """
    if item.treatment == "kept":
        raw = checkpoint.raw(item.source_name)
    else:
        raw = encode_values(item, _in_convention(checkpoint, item, target_format))
    return in_order(checkpoint, item, raw, target_format)


def quantised(checkpoint: Checkpoint, item: Item, target_format: str, recipe: Recipe) -> np.ndarray:
    """uint8 [n_bytes]: an item's values in blocks, rows in canonical order. Raises as `encoded`."""
    values = _in_convention(checkpoint, item, target_format)
    return recipe.encode(item.name, gguf_name(checkpoint, item.name), values, item.codec)


def in_order(checkpoint: Checkpoint, item: Item, raw: np.ndarray, target_format: str) -> np.ndarray:
    """An item's data with its rows in the order of the target."""
    order = gguf_rows(checkpoint, item.name, item.shape) if target_format == "gguf" else None
    return raw if order is None else raw.reshape(item.shape[0], -1)[order].reshape(-1)


def encode_values(item: Item, values: np.ndarray) -> np.ndarray:
    """uint8 [n_bytes] of float32 values in the item's codec. Raises ConversionError if one becomes infinite."""
    if item.codec == "f32":
        return np.ascontiguousarray(values, dtype="<f4").reshape(-1).view(np.uint8)  # no copy of a large tensor
    raw = quants.codec(item.codec).encode(values)
    if item.codec == "f16":
        overflown = np.isinf(raw.view("<f2")) & np.isfinite(values).reshape(-1)
        if overflown.any():
            at = int(np.argmax(overflown))
            raise ConversionError(
                f"tensor {item.name!r} holds {values.reshape(-1)[at]:g} at index {at}, and f16 ends at 65504; dequantise to f32 or bf16"
            )
    return raw


def gguf_rows(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """int64 [rows]: which canonical row each row of a GGUF file is; None where they are the same."""
    config = checkpoint.config
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None or not checkpoint.architecture.GGUF_PERMUTES_QK:
        return None
    return interleaved_rows(shape[0], heads)


def gguf_name(checkpoint: Checkpoint, name: str) -> str:
    """A canonical name in GGUF's words."""
    if name in GLOBAL_NAMES:
        return GLOBAL_NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{checkpoint.architecture.LAYER_NAMES[rest]}"


def norm_shift(checkpoint: Checkpoint, name: str) -> float:
    """What the Hugging Face convention leaves out of this tensor's values."""
    return float(checkpoint.architecture.HF_NORM_OFFSET) if name.endswith("norm.weight") else 0.0


def is_shifted(checkpoint: Checkpoint, name: str, target_format: str) -> bool:
    """Whether source and target differ on what a norm's values are: factors, or factors less the offset."""
    return norm_shift(checkpoint, name) != 0.0 and (checkpoint.convention == "gguf") != (target_format == "gguf")


def _chosen(checkpoint: Checkpoint, sources: Mapping[str, str], target_format: str, recipe: Recipe) -> dict[str, str]:
    """What each tensor is quantised to, by canonical name. Where a format has no such blocks, F16."""
    shapes = {name: checkpoint.tensors[source].info.shape for name, source in sources.items()}
    names = {gguf_name(checkpoint, name): name for name in shapes}
    found = recipe.codecs({gguf: shapes[name] for gguf, name in names.items()}, recipe.shape(checkpoint.config))
    return {names[gguf]: codec if holds(target_format, codec) else "f16" for gguf, codec in found.items()}


def _item(
    checkpoint: Checkpoint, name: str, source: str, target_format: str, dequantize: str, chosen: str | None
) -> Item:
    info = checkpoint.tensors[source].info
    target_name = gguf_name(checkpoint, name) if target_format == "gguf" else name
    is_small = name.endswith(("norm.weight", ".bias"))  # readers of GGUF and `.apr` take these for F32
    moves = is_shifted(checkpoint, name, target_format)
    codec, treatment = info.codec, "kept"
    if chosen is not None:
        codec, treatment = chosen, "kept" if chosen == info.codec else "quantized"
    elif moves or (is_small and target_format != "safetensors" and info.codec != "f32"):
        # F32 holds what F16 and BF16 hold
        codec, treatment = "f32", "recoded" if info.codec in DEQUANTIZED else "dequantized"
    elif not holds(target_format, info.codec):
        codec, treatment = "f32" if is_small else dequantize, "dequantized"
    return Item(name, source, target_name, info.codec, codec, info.shape, treatment)  # type: ignore[arg-type]


def _in_convention(checkpoint: Checkpoint, item: Item, target_format: str) -> np.ndarray:
    """float32 [shape]: the values as the target means them: norm factors in GGUF, less the offset elsewhere.

    Raises ConversionError where no float32 plus the offset is the factor.
    """
    shift = np.float32(norm_shift(checkpoint, item.name))
    if checkpoint.convention == "hf" and target_format != "gguf":
        return checkpoint.file.array(checkpoint.tensors[item.source_name].info.name)  # not via the factor, which rounds
    factors = checkpoint.array(item.source_name)
    if target_format == "gguf" or not shift:
        return factors
    weights = factors - shift
    inexact = (weights + shift != factors) & np.isfinite(factors)
    if inexact.any():
        at = int(np.argmax(inexact))
        raise ConversionError(
            f"tensor {item.name!r} holds the factor {factors.reshape(-1)[at]!r} at index {at}, and {target_format} stores it less {shift:g}, "
            "which no float32 can do exactly here; write .gguf, which stores the factors"
        )
    return weights


def _refuse_undecodable(checkpoint: Checkpoint, items: Sequence[Item]) -> None:
    found = sorted({i.source_codec for i in items if i.treatment != "kept" and i.source_codec not in quants.names()})
    if found:
        raise UnsupportedError(
            f"{checkpoint.file.path}: tensors of type {', '.join(found)}, which the target cannot hold and which are not decoded here",
            known=quants.names(),
        )


def _refuse_losses(checkpoint: Checkpoint, items: Sequence[Item], target_format: str) -> None:
    lost = [item for item in items if item.treatment == "dequantized"]
    if not lost:
        return
    by_source = {item.source_name: item.source_codec for item in lost}  # a tied head is no tensor of the source
    kinds = ", ".join(f"{n} {codec}" for codec, n in Counter(by_source.values()).most_common())
    kept = sum(item.n_bytes for item in items if item.treatment != "dequantized")
    sizes = {codec: (kept + sum(n_bytes(codec, item.shape) for item in lost)) / 1e6 for codec in ("f32", "f16")}
    what = (
        "f32 f16 bf16 q4_k q6_k"
        if target_format == "apr"
        else "the types of ggml"
        if target_format == "gguf"
        else "plain types"
    )
    raise ConversionError(
        f"{checkpoint.file.path}: {len(by_source)} of {len({item.source_name for item in items})} tensors are of types that {target_format} cannot hold ({kinds}; it holds {what}); "
        f"add --dequantize f32 (exact, {sizes['f32']:,.0f} MB) or --dequantize f16 (rounded, {sizes['f16']:,.0f} MB); the others keep their encoding"
    )
