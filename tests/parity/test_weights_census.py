"""Which tensors stand against which."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tiny
from apr.parity._pair import Pair
from apr.parity._weights_census import census, incomplete
from parity.weight_defects import EMBEDDING, HEAD, UP1
from parity.weight_subjects import subject


def pair(a: Path, b: Path) -> Pair:
    return Pair(subject(a), subject(b))


def test_every_tensor_of_the_architecture_has_its_match(tmp_path: Path) -> None:
    for model_type in tiny.MODEL_TYPES:
        config = tiny.config(model_type)
        a = tiny.write(tmp_path / f"{model_type} a", "safetensors", config)
        counted = census(pair(a, tiny.write(tmp_path / f"{model_type} b", "gguf", config)))
        assert [match.name for match in counted.matches] == list(counted.reference.expected)
        assert counted.outcomes == ()


def test_a_tied_head_is_matched_with_the_embedding(tmp_path: Path) -> None:
    config = tiny.config(tie_word_embeddings=True)
    a, b = tiny.write(tmp_path / "a", "safetensors", config), tiny.write(tmp_path / "b", "apr", config)
    (head,) = [match for match in census(pair(a, b)).matches if match.name == HEAD]
    assert head.reference.info.name == EMBEDDING and head.candidate.info.name == HEAD


def test_rows_behind_the_vocabulary_are_left_out_only_if_they_are_padding(tmp_path: Path) -> None:
    values = tiny.tensors(tiny.config())
    a = tiny.write(tmp_path / "a", "gguf")
    for tail, n_rows in (
        (lambda w: np.zeros((64, 64), dtype=np.float32), 320),
        (lambda w: np.repeat(w[:1], 64, axis=0), 320),
        (lambda w: w[:64], None),
    ):
        longer = {name: np.concatenate([w, tail(w)]) if w.shape[0] == 320 else w for name, w in values.items()}
        b = tiny.write(tmp_path / "b", "gguf", tiny.config(vocab_size=384), longer)
        found = {match.name: match.n_rows for match in census(pair(a, b)).matches}
        assert found[EMBEDDING] == found[HEAD] == n_rows
        assert found[UP1] is None


def test_buffers_that_are_computed_anew_are_no_strangers(tmp_path: Path) -> None:
    values = tiny.tensors(tiny.config())
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, dtype=np.float32)}
    a = tiny.write(tmp_path / "a", "gguf")
    assert census(pair(a, tiny.write(tmp_path / "b", "safetensors", weights=values | buffer))).outcomes == ()
    stranger = {"model.layers.0.self_attn.sinks": np.ones(8, dtype=np.float32)}
    (found,) = census(pair(a, tiny.write(tmp_path / "c", "safetensors", weights=values | stranger))).outcomes
    assert found.cause == "weights.extra"


def test_a_missing_bias_of_zeros_is_not_missed(tmp_path: Path) -> None:
    config = tiny.config("qwen2")
    values = {name: w * 0 if name.endswith(".bias") else w for name, w in tiny.tensors(config).items()}
    a = tiny.write(tmp_path / "a", "safetensors", config, values)
    without = {name: w for name, w in values.items() if not name.endswith(".bias")}
    assert census(pair(a, tiny.write(tmp_path / "b", "safetensors", config, without))).outcomes == ()


def test_what_a_model_lacks_of_its_own_architecture_is_listed(tmp_path: Path) -> None:
    values = tiny.tensors(tiny.config())
    del values[UP1]
    assert incomplete(subject(tiny.write(tmp_path, "safetensors", weights=values)).checkpoint) == [UP1]
