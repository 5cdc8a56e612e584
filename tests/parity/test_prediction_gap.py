"""The one figure of a counterfactual, against NumPy's own arithmetic and on planted differences."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

import tiny
from apr.engines._subject import Subject
from apr.parity._pair import Pair
from apr.parity._prediction_gap import log_softmax, prediction_gap


def test_log_softmax_is_torchs() -> None:
    logits = 30 * np.random.default_rng(0).standard_normal((5, 320)).astype(np.float32)
    assert np.allclose(
        log_softmax(logits), torch.log_softmax(torch.from_numpy(logits).double(), -1).numpy(), atol=1e-12
    )


def test_two_containers_of_the_same_weights_are_no_gap_apart(tmp_path: Path) -> None:
    made = tiny.config("qwen2")
    paths = [tiny.write(tmp_path / kind, kind, made) for kind in ("gguf", "safetensors")]
    with Subject(paths[0], threads=1) as first, Subject(paths[1], threads=1) as second:
        gap = prediction_gap(Pair(first, second))
        assert gap is not None and gap < 1e-9


def test_another_rotary_base_is_a_gap_and_another_template_is_one_too(tmp_path: Path) -> None:
    made = tiny.config("llama")
    path = tiny.write(tmp_path / "a", "gguf", made)
    plain = tiny.write(tmp_path / "b", "safetensors", made)
    (plain / "chat_template.jinja").write_text("{{ messages[0]['content'] }}", encoding="utf-8")
    with Subject(path, threads=1) as first, Subject(plain, threads=1) as second:
        turned = first.with_config(dataclasses.replace(first.config, rope_theta=100.0))
        gaps = [prediction_gap(Pair(first, candidate)) for candidate in (turned, second)]
        assert all(gap is not None and gap > 1e-3 for gap in gaps), gaps


def test_a_candidate_that_cannot_be_loaded_has_no_gap(tmp_path: Path) -> None:
    made = tiny.config("llama")
    weights = tiny.tensors(made)
    path = tiny.write(tmp_path / "a", "safetensors", made, weights)
    del weights["model.norm.weight"]
    broken = tiny.write(tmp_path / "b", "safetensors", made, weights)
    with Subject(path, threads=1) as first, Subject(broken, threads=1) as second:
        assert prediction_gap(Pair(first, second)) is None
