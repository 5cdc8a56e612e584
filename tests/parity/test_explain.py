"""Each hypothesis recognises its own transform, and none explains what is something else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines._subject import Subject
from apr.parity import _explain
from apr.parity._captures import capture
from apr.parity._explain import Explanation, Scene, explain

LAYER = 1


@pytest.fixture(scope="module", params=["llama", "gemma3_text"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    path: Path = tiny.write(tmp_path_factory.mktemp("model"), "gguf", tiny.config(request.param))
    with Subject(path, "numpy", threads=1) as made:
        yield made


@pytest.fixture(scope="module")
def inputs(subject: Subject) -> dict[str, np.ndarray]:
    slots = capture(subject.session, list(range(40, 70))).slots
    prefix = f"layers.{LAYER}."
    found = {slot.removeprefix(prefix): value for slot, value in slots.items() if slot.startswith(prefix)}
    return found | {"x": slots["layers.0.out"]}


def explained(subject: Subject, inputs: dict[str, np.ndarray], name: str, candidate: np.ndarray) -> Explanation:
    reference = inputs[name]
    is_bad = np.abs(candidate - reference).max(axis=1) > 1e-5
    is_bad |= ~np.isfinite(candidate).all(axis=1)
    return explain(Scene(LAYER, name, inputs, reference, candidate.astype(np.float32), is_bad, subject.checkpoint))


def test_a_branch_or_a_stream_left_out_is_told(subject: Subject, inputs: dict[str, np.ndarray]) -> None:
    branch = inputs.get("attn_post_norm", inputs["attn_out"])
    assert "leaves the residual stream out" in explained(subject, inputs, "attn_residual", branch).sentence
    assert "leaves the layer's own branch out" in explained(subject, inputs, "attn_residual", inputs["x"]).sentence


def test_another_activation_is_told(subject: Subject, inputs: dict[str, np.ndarray]) -> None:
    gate = inputs["ffn_gate"]
    assert "ReLU" in explained(subject, inputs, "ffn_act", np.maximum(gate, 0)).sentence
    assert "leaves the gate out" in explained(subject, inputs, "ffn_swiglu", inputs["ffn_up"]).sentence


def test_a_factor_a_bias_and_zeros_are_told(subject: Subject, inputs: dict[str, np.ndarray]) -> None:
    value = inputs["ffn_down"]
    bias = np.random.default_rng(0).standard_normal(value.shape[1])
    assert "1.02 times" in explained(subject, inputs, "ffn_down", value * 1.02).sentence
    assert "bias" in explained(subject, inputs, "ffn_down", value + bias).sentence
    assert "zero" in explained(subject, inputs, "ffn_down", value * 0).sentence


def test_a_wrong_norm_weight_is_told_by_feature(subject: Subject, inputs: dict[str, np.ndarray]) -> None:
    value = inputs["ffn_norm"]
    weights = np.random.default_rng(0).uniform(0.5, 1.5, value.shape[1])
    assert "norm weight" in explained(subject, inputs, "ffn_norm", value * weights).sentence


def test_noise_is_explained_by_nothing(subject: Subject, inputs: dict[str, np.ndarray]) -> None:
    for name in ("ffn_down", "attn", "q_rope", "attn_norm"):
        noise = np.random.default_rng(0).standard_normal(inputs[name].shape)
        found = explained(subject, inputs, name, inputs[name] + noise)
        assert found.cause == "engine.op"
        assert found.sentence == "is wrong", name


def test_keys_that_are_not_turned_are_told(subject: Subject, inputs: dict[str, np.ndarray]) -> None:
    found = explained(subject, inputs, "k_rope", inputs.get("k_norm", inputs["k"]))
    assert found.sentence == "is not rotated"
    assert found.where["position"] == 1


def test_heads_given_to_the_wrong_keys_are_told(subject: Subject, inputs: dict[str, np.ndarray]) -> None:
    scene = Scene(LAYER, "attn", inputs, inputs["attn"], inputs["attn"], np.ones(30, bool), subject.checkpoint)
    compute = _explain._attention(scene)
    assert compute is not None
    scale = 0.25
    assert np.allclose(compute(scale, None, "grouped"), inputs["attn"], atol=1e-5)
    found = explained(subject, inputs, "attn", compute(scale, None, "tiled"))
    assert "wrong key-value heads" in found.sentence


def test_other_positions_from_one_on_are_a_matter_of_position(subject: Subject, inputs: dict[str, np.ndarray]) -> None:
    candidate = inputs["q_rope"].copy()
    candidate[11:] += np.random.default_rng(0).standard_normal(candidate[11:].shape)
    found = explained(subject, inputs, "q_rope", candidate)
    assert found.cause == "engine.position"
    assert found.where["position"] == 11


def test_a_difference_in_some_heads_names_them(subject: Subject, inputs: dict[str, np.ndarray]) -> None:
    candidate = inputs["attn"].reshape(30, -1, 16).copy()
    candidate[:, [0, 3]] += np.random.default_rng(0).standard_normal((30, 2, 16))
    found = explained(subject, inputs, "attn", candidate.reshape(30, -1))
    assert found.where["heads"] == [0, 3]
    assert "heads 0, 3 only" in found.sentence


def test_a_value_that_is_not_finite_comes_before_everything_else(
    subject: Subject, inputs: dict[str, np.ndarray]
) -> None:
    candidate = inputs["ffn_up"] * 3
    candidate[7, 1] = np.inf
    found = explained(subject, inputs, "ffn_up", candidate)
    assert found.sentence == "gives inf from finite inputs"
    assert found.where["position"] == 7
