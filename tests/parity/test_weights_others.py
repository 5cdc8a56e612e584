"""Tensors that are other tensors: found by name, also where the file's convention stands between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.formats import open_model
from apr.models._checkpoint import Checkpoint
from apr.parity._weights_measures import Pool
from apr.parity._weights_others import Others, as_if_named
from parity.weight_subjects import subject

K = "model.layers.0.self_attn.k_proj.weight"
V = "model.layers.0.self_attn.v_proj.weight"
V1 = "model.layers.1.self_attn.v_proj.weight"


def others(first: Path, second: Path) -> Others:
    return Others(subject(first).checkpoint, Checkpoint(open_model(second)), Pool(1))


@pytest.mark.parametrize("codec", ["f32", "q4_0"])
def test_names_mixed_up_before_the_file_was_written(codec: str, tmp_path: Path) -> None:
    values = tiny.tensors(tiny.config())
    first = tiny.write(tmp_path / "first", "safetensors", weights=values)
    second = tiny.write(tmp_path / "second", "gguf", weights=values | {K: values[V], V: values[K]}, codec=codec)
    search = others(first, second)
    assert search.search(K, search.candidate.tensors[K]) == V
    assert search.search(V, search.candidate.tensors[V]) == K


def test_names_mixed_up_in_the_file_itself(tmp_path: Path) -> None:
    first = tiny.write(tmp_path / "first", "safetensors")
    search = others(first, tiny.write(tmp_path / "second", "gguf"))
    tensors = search.candidate.tensors
    renamed = as_if_named(search.candidate, tensors[K], V)  # the bytes of k, called v
    assert renamed.row_order is None
    assert search.search(V, renamed) == K


def test_a_tensor_that_is_no_other_has_none(tmp_path: Path) -> None:
    values = tiny.tensors(tiny.config())
    first = tiny.write(tmp_path / "first", "safetensors", weights=values)
    noise = (0.06 * np.random.default_rng(7).standard_normal(values[V].shape)).astype(np.float32)
    second = tiny.write(tmp_path / "second", "gguf", weights=values | {V: noise})
    search = others(first, second)
    assert search.search(V, search.candidate.tensors[V]) is None


def test_norms_which_resemble_each_other_are_told_apart(tmp_path: Path) -> None:
    values = tiny.tensors(tiny.config("gemma3_text"))
    a, b = "model.layers.0.input_layernorm.weight", "model.layers.1.input_layernorm.weight"
    first = tiny.write(tmp_path / "first", "safetensors", tiny.config("gemma3_text"), values)
    second = tiny.write(tmp_path / "second", "gguf", tiny.config("gemma3_text"), values | {a: values[b]})
    search = others(first, second)
    assert search.search(a, search.candidate.tensors[a]) == b
    assert search.search(b, search.candidate.tensors[b]) is None
