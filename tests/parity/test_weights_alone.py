"""One file without a reference: what it says against itself, and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.parity import weights
from apr.parity._link import LinkResult
from parity.weight_defects import EMBEDDING, HEAD, NORM1, O1, Q0, UP1, Weights
from parity.weight_subjects import subject

LAYERS = 5


def looked_at(
    folder: Path, plant: Callable[[Weights], None], *, model_type: str = "llama", codec: str = "f32"
) -> LinkResult:
    config = tiny.config(model_type, num_hidden_layers=LAYERS, layer_types=())
    planted = tiny.tensors(config)
    plant(planted)
    return weights.examine(
        subject(tiny.write(folder, "gguf" if codec != "f32" else "safetensors", config, planted, codec=codec))
    )


@pytest.mark.parametrize(
    "file_format, codec", [("safetensors", "f16"), ("gguf", "q4_0"), ("apr", "f32"), ("gguf", "q5_1")]
)
@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_a_healthy_file_says_what_it_cannot_know(model_type: str, file_format: str, codec: str, tmp_path: Path) -> None:
    result = weights.examine(subject(tiny.write(tmp_path, file_format, tiny.config(model_type), codec=codec)))
    assert (result.verdict, result.findings) == ("cannot_tell", ())
    assert "exchanged" in result.sentence and result.measure["not_knowable"]


def not_a_number(weights: Weights) -> None:
    weights[UP1][3, 3] = np.nan


def zero(weights: Weights) -> None:
    weights[UP1] *= 0


def zero_head(weights: Weights) -> None:
    weights[Q0][16:32] = 0


def zero_columns(weights: Weights) -> None:
    weights[O1][:, 16:32] = 0


def hundredfold(weights: Weights) -> None:
    weights[UP1] *= np.float32(100)


def a_tenth(weights: Weights) -> None:
    weights[O1] *= np.float32(0.1)


def norm_less_one(weights: Weights) -> None:
    weights[NORM1] -= 1


def norm_plus_one(weights: Weights) -> None:
    weights[NORM1] += 1


def all_norms_less_one(weights: Weights) -> None:
    for name in weights:
        if name.endswith("norm.weight"):
            weights[name] = weights[name] - np.float32(1)


def layer_twice(weights: Weights) -> None:
    for name in list(weights):
        if name.startswith("model.layers.3."):
            weights[name] = weights[name.replace(".3.", ".1.")]


def lost(weights: Weights) -> None:
    del weights[UP1]


def turned(weights: Weights) -> None:
    weights[UP1] = np.ascontiguousarray(weights[UP1].T)


def stranger(weights: Weights) -> None:
    weights["model.layers.0.self_attn.sinks"] = np.ones(4, dtype=np.float32)


@pytest.mark.parametrize(
    "plant, cause, tensor",
    [
        (not_a_number, "weights.nonfinite", UP1),
        (zero, "weights.zeroed", UP1),
        (zero_head, "weights.zeroed", Q0),
        (zero_columns, "weights.zeroed", O1),
        (hundredfold, "weights.scaled", UP1),
        (a_tenth, "weights.scaled", O1),
        (norm_less_one, "weights.offset", NORM1),
        (norm_plus_one, "weights.offset", NORM1),
        (all_norms_less_one, "weights.offset", "model.layers.0.input_layernorm.weight"),
        (layer_twice, "weights.swapped", "model.layers.3.self_attn.q_proj.weight"),
        (lost, "weights.missing", UP1),
        (turned, "weights.transposed", UP1),
        (stranger, "weights.extra", "model.layers.0.self_attn.sinks"),
    ],
)
def test_a_planted_defect_is_named(plant: Callable[[Weights], None], cause: str, tensor: str, tmp_path: Path) -> None:
    result = looked_at(tmp_path, plant)
    assert result.verdict == "different"
    assert [(f.cause, f.where["tensor"]) for f in result.findings] == [(cause, tensor)]


@pytest.mark.parametrize(
    "plant, cause", [(zero, "weights.zeroed"), (hundredfold, "weights.scaled"), (layer_twice, "weights.swapped")]
)
def test_defects_are_seen_behind_a_quantisation(plant: Callable[[Weights], None], cause: str, tmp_path: Path) -> None:
    assert [f.cause for f in looked_at(tmp_path, plant, codec="q4_0").findings] == [cause]


def test_biases_of_the_architecture_are_missed(tmp_path: Path) -> None:
    def plant(weights: Weights) -> None:
        for name in [name for name in weights if name.endswith(".bias")]:
            del weights[name]

    (found,) = looked_at(tmp_path, plant, model_type="qwen2").findings
    assert found.cause == "weights.bias_missing" and len(found.where["tensors"]) == 3 * LAYERS


def test_a_bias_of_zeros_among_others_is_missed(tmp_path: Path) -> None:
    def plant(weights: Weights) -> None:
        weights["model.layers.2.self_attn.v_proj.bias"] *= 0

    (found,) = looked_at(tmp_path, plant, model_type="qwen2").findings
    assert (found.cause, found.where["layer"]) == ("weights.bias_missing", 2)


def test_a_head_beside_a_tie_must_be_the_embedding(tmp_path: Path) -> None:
    config = tiny.config(tie_word_embeddings=True)
    values = tiny.tensors(config)
    good = tiny.write(tmp_path / "good", "safetensors", config, values | {HEAD: values[EMBEDDING]})
    bad = tiny.write(tmp_path / "bad", "safetensors", config, values | {HEAD: values[EMBEDDING][::-1].copy()})
    assert weights.examine(subject(good)).findings == ()
    assert [f.cause for f in weights.examine(subject(bad)).findings] == ["weights.tied"]


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf")
    path.write_bytes(path.read_bytes()[:-5000])
    assert [f.cause for f in weights.examine(subject(path)).findings] == ["file.unreadable"]


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2"])
def test_a_real_model_raises_no_alarm(alias: str, real_model: Callable[[str], Path]) -> None:
    result = weights.examine(subject(real_model(alias)))
    assert (result.verdict, result.findings) == ("cannot_tell", ())
