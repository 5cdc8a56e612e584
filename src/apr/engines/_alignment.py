"""Where other engines have the slots of our forward pass: the tables of `models/alignment`, one file an architecture.

An entry of a table is a slot. `[layer]` holds those of every layer, `[model]` the others. Its keys:

hf           the module of transformers, below `model.layers.N` in a layer ("" is the layer itself)
side         what of the module: its "output" (default), its "input", or, of an attention module, the rotated "query"
             or "key"
columns      the part of a fused projection: q, k, v, gate or up
heads        "q" or "k": the value is [n_tokens, heads, head_dim]
heads_first  transformers has the heads before the tokens
gguf         the tensor that makes the slot, without `blk.N.` and `.weight`
ggml         the name of the node of llama.cpp's graph, without `-N`; several nodes bear it, one after the other, and the
             last one counts. Without this key the node is the last one that reads the tensor `gguf` or its bias
op           only nodes of this operation count
into         the node is what the norm with this GGUF tensor takes in
interleaved  "q" or "k": in GGUF files, and so in llama.cpp, the two halves of each of these heads are interleaved

A slot that an engine does not have lacks its key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from apr import models
from apr.models._checkpoint import deinterleaved_rows
from apr.models._config import ModelConfig

FOLDER = Path(models.__file__).parent / "alignment"

Side = Literal["output", "input", "query", "key"]


@dataclass(frozen=True, slots=True)
class SlotPlace:
    """Where one slot of one model is; None for what does not apply.

    module:       transformers' module; "" is the model itself
    columns:      the slot is this part of the module's or node's last axis
    heads:        the value has an axis of so many heads
    tensor:       the GGUF tensor, without `.weight`
    node:         the name of the graph's node
    into:         the GGUF tensor of the norm that reads the node, without `.weight`
    row_order:    int64 [size]: canonical feature i is llama.cpp's feature row_order[i]
    """

    slot: str
    module: str | None = None
    side: Side = "output"
    columns: slice | None = None
    heads: int | None = None
    heads_first: bool = False
    tensor: str | None = None
    node: str | None = None
    op: str | None = None
    into: str | None = None
    row_order: np.ndarray | None = None


def places(config: ModelConfig) -> dict[str, SlotPlace]:
    """Every slot of a model's forward pass and its place in the other engines, in the order of the pass."""
    table = _table(models.for_model_type(config.model_type).__name__.rpartition(".")[2])
    model = {slot: _place(slot, entry, config, layer=None) for slot, entry in table["model"].items()}
    found = {"embed": model.pop("embed")}
    for layer in range(config.num_hidden_layers):
        for name, entry in table["layer"].items():
            slot = f"layers.{layer}.{name}"
            found[slot] = _place(slot, entry, config, layer=layer)
    return found | model


def split_slot(slot: str) -> tuple[int | None, str]:
    """The layer and the short name of a slot: `layers.3.q` is (3, "q"), `embed` is (None, "embed")."""
    if not slot.startswith("layers."):
        return None, slot
    _, layer, name = slot.split(".", 2)
    return int(layer), name


@cache
def _table(architecture: str) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    with (FOLDER / f"{architecture}.toml").open("rb") as file:
        return tomllib.load(file)


def _place(slot: str, entry: Mapping[str, Any], config: ModelConfig, *, layer: int | None) -> SlotPlace:
    given = dict(entry)
    module, tensor, into, node = (given.pop(key, None) for key in ("hf", "gguf", "into", "ggml"))
    columns, heads, interleaved = (given.pop(key, None) for key in ("columns", "heads", "interleaved"))
    if layer is not None:
        module = module if module is None else f"model.layers.{layer}.{module}".rstrip(".")
        tensor, into = (name and f"blk.{layer}.{name}" for name in (tensor, into))
        node = node and f"{node}-{layer}"
    counts = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
    return SlotPlace(
        slot,
        module,
        tensor=tensor,
        node=node,
        into=into,
        columns=columns and _columns(config)[columns],
        heads=heads and counts[heads],
        row_order=interleaved and deinterleaved_rows(counts[interleaved] * config.head_dim, counts[interleaved]),
        **given,
    )


def _columns(config: ModelConfig) -> dict[str, slice]:
    q_end = config.num_attention_heads * config.head_dim
    kv_size = config.num_key_value_heads * config.head_dim
    inner = config.intermediate_size
    return {
        "q": slice(0, q_end),
        "k": slice(q_end, q_end + kv_size),
        "v": slice(q_end + kv_size, q_end + 2 * kv_size),
        "gate": slice(0, inner),
        "up": slice(inner, 2 * inner),
    }
