"""Our own engine: the forward pass of `models` over NumPy kernels, its taps, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines import native
from apr.errors import EngineError, MissingTensor
from apr.formats import open_model
from apr.models._checkpoint import Checkpoint


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> native.NativeSession:
    path = tiny.write(tmp_path_factory.mktemp("model"), "gguf", tiny.config("qwen2"))
    return native.load(Checkpoint(open_model(path)), threads=1)


def test_generation_is_the_same_with_and_without_a_tap_and_sees_every_slot(session: native.NativeSession) -> None:
    seen: dict[str, tuple[int, ...]] = {}

    def tap(name: str, value: np.ndarray) -> np.ndarray:
        seen[name] = value.shape
        return value

    token_ids = np.array([5, 6, 7])
    plain = session.forward(token_ids, session.new_cache())
    assert (session.forward(token_ids, session.new_cache(), tap=tap) == plain).all()
    slots = [
        "attn_norm",
        "q",
        "k",
        "v",
        "q_rope",
        "k_rope",
        "attn",
        "attn_out",
        "attn_residual",
        "ffn_norm",
        "ffn_gate",
        "ffn_up",
        "ffn_act",
        "ffn_swiglu",
        "ffn_down",
        "out",
    ]
    expected = {"embed", "final_norm", "logits"} | {f"layers.{i}.{slot}" for i in range(2) for slot in slots}
    assert set(seen) == expected
    assert (
        seen["layers.0.q_rope"] == (3, 4, 16)
        and seen["layers.1.ffn_gate"] == (3, 96)
        and seen["logits"] == (1, tiny.VOCAB_SIZE)
    )


def test_what_a_tap_returns_is_computed_on(session: native.NativeSession) -> None:
    token_ids = np.array([5, 6, 7])
    plain = session.forward(token_ids, session.new_cache())
    zeroed = session.forward(
        token_ids, session.new_cache(), tap=lambda name, v: np.zeros_like(v) if name == "layers.1.ffn_down" else v
    )
    assert np.abs(zeroed - plain).max() > 0.01


def test_a_token_outside_the_vocabulary_is_refused(session: native.NativeSession) -> None:
    for bad in ([-1], [tiny.VOCAB_SIZE], []):
        with pytest.raises(EngineError, match="vocabulary"):
            session.forward(np.array(bad, dtype=np.int64), session.new_cache())


def test_logits_that_are_not_finite_are_an_error_and_not_a_token(tmp_path: Path) -> None:
    weights = tiny.tensors(tiny.config())
    weights["model.norm.weight"][3] = np.nan
    session = native.load(
        Checkpoint(open_model(tiny.write(tmp_path, "safetensors", tiny.config(), weights))), threads=1
    )
    with pytest.raises(EngineError, match="not finite"):
        session.forward(np.array([1]), session.new_cache())


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    weights = tiny.tensors(tiny.config("qwen2"))
    del weights["model.layers.1.self_attn.k_proj.bias"]
    file = open_model(tiny.write(tmp_path, "safetensors", tiny.config("qwen2"), weights))
    with pytest.raises(MissingTensor, match=r"layers\.1\.self_attn\.k_proj\.bias"):
        native.load(Checkpoint(file), threads=1)


def test_threads_and_kernel_set_are_said(session: native.NativeSession) -> None:
    assert (session.engine, session.kernel_set, session.threads) == ("native", "numpy", 1)


def test_loading_tells_the_bytes_of_every_tensor(tmp_path: Path) -> None:
    told: list[int] = []
    checkpoint = Checkpoint(open_model(tiny.write(tmp_path, "gguf")))
    native.load(checkpoint, threads=1, progress=told.append)
    assert sum(told) == sum(info.n_bytes for info in checkpoint.file.tensors.values())
