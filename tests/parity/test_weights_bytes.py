"""Bytes before values: what is the same, and what only looks so."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tiny
from apr.formats import open_model
from apr.models._checkpoint import Checkpoint
from apr.parity._weights_bytes import same_bytes

Q = "model.layers.0.self_attn.q_proj.weight"
EMBEDDING = "model.embed_tokens.weight"


def places(path: Path) -> Checkpoint:
    return Checkpoint(open_model(path))


def test_one_encoding_in_two_containers_is_the_same_in_spite_of_interleaved_heads(tmp_path: Path) -> None:
    a, b = places(tiny.write(tmp_path / "a", "gguf")), places(tiny.write(tmp_path / "b", "safetensors"))
    assert a.tensors[Q].row_order is not None and b.tensors[Q].row_order is None
    assert all(same_bytes(a.tensors[name], b.tensors[name]) for name in a.tensors)


def test_one_bit_makes_the_difference(tmp_path: Path) -> None:
    values = tiny.tensors(tiny.config())
    a = places(tiny.write(tmp_path / "a", "gguf", codec="q8_0"))
    values[Q][63, 63] *= np.float32(1.01)
    b = places(tiny.write(tmp_path / "b", "gguf", weights=values, codec="q8_0"))
    assert not same_bytes(a.tensors[Q], b.tensors[Q])
    assert same_bytes(a.tensors[EMBEDDING], b.tensors[EMBEDDING])


def test_two_encodings_and_two_shapes_are_not_the_same(tmp_path: Path) -> None:
    a = places(tiny.write(tmp_path / "a", "gguf"))
    b = places(tiny.write(tmp_path / "b", "gguf", codec="f16"))
    assert not same_bytes(a.tensors[Q], b.tensors[Q])
    assert not same_bytes(a.tensors[Q], a.tensors[EMBEDDING])


def test_a_norm_with_its_one_is_not_one_without(tmp_path: Path) -> None:
    config = tiny.config("gemma3_text")
    a = places(tiny.write(tmp_path / "a", "gguf", config)).tensors["model.norm.weight"]
    b = places(tiny.write(tmp_path / "b", "safetensors", config)).tensors["model.norm.weight"]
    assert not same_bytes(a, b)


def test_only_the_first_rows_are_compared_if_asked(tmp_path: Path) -> None:
    values = tiny.tensors(tiny.config())
    longer = {name: np.pad(w, ((0, 64), (0, 0))) if w.shape[0] == 320 else w for name, w in values.items()}
    a = places(tiny.write(tmp_path / "a", "gguf", weights=values))
    b = places(tiny.write(tmp_path / "b", "gguf", tiny.config(vocab_size=384), longer))
    assert same_bytes(a.tensors[EMBEDDING], b.tensors[EMBEDDING], n_rows=320)
    assert not same_bytes(a.tensors[EMBEDDING], b.tensors[EMBEDDING])
