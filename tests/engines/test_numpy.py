"""The defining engine: the forward pass of `models` over NumPy kernels, its taps, and what every engine refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines import numpy as numpy_engine
from apr.engines._base import Span
from apr.errors import EngineError, MissingTensor
from apr.formats import open_model
from apr.models._checkpoint import Checkpoint

TOKEN_IDS = np.array([5, 6, 7])
LAYER_SLOTS = (
    "attn_norm q k v q_rope k_rope attn attn_out attn_residual ffn_norm ffn_gate ffn_up ffn_act ffn_swiglu ffn_down out"
)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> numpy_engine.NumpySession:
    path = tiny.write(tmp_path_factory.mktemp("model"), "gguf", tiny.config("qwen2"))
    return numpy_engine.load(Checkpoint(open_model(path)), threads=1)


def span(session: numpy_engine.NumpySession, token_ids: np.ndarray = TOKEN_IDS) -> Span:
    return Span(token_ids, session.new_cache())


def test_generation_is_the_same_with_and_without_a_tap_and_sees_every_slot(
    session: numpy_engine.NumpySession,
) -> None:
    seen: dict[str, tuple[int, ...]] = {}

    def tap(name: str, value: np.ndarray) -> np.ndarray:
        seen[name] = value.shape
        return value

    plain = session.forward([span(session)])
    assert (session.forward([span(session)], tap=tap) == plain).all()
    layers = [f"layers.{i}.{slot}" for i in range(2) for slot in LAYER_SLOTS.split()]
    assert list(seen) == ["embed", *layers, "final_norm", "logits"]
    assert seen["layers.0.q_rope"] == (3, 4, 16) and seen["layers.1.ffn_gate"] == (3, 96)
    assert seen["logits"] == (1, tiny.VOCAB_SIZE)


def test_what_a_tap_returns_is_computed_on(session: numpy_engine.NumpySession) -> None:
    plain = session.forward([span(session)])
    zeroed = session.forward(
        [span(session)], tap=lambda name, v: np.zeros_like(v) if name == "layers.1.ffn_down" else v
    )
    assert np.abs(zeroed - plain).max() > 0.01


def test_a_tap_cannot_change_a_value_in_place(session: numpy_engine.NumpySession) -> None:
    def tap(name: str, value: np.ndarray) -> np.ndarray:
        value[:] = 0
        return value

    with pytest.raises(ValueError, match="read-only"):
        session.forward([span(session)], tap=tap)


def test_a_token_outside_the_vocabulary_is_refused(session: numpy_engine.NumpySession) -> None:
    for bad in ([-1], [tiny.VOCAB_SIZE], []):
        with pytest.raises(EngineError, match="vocabulary"):
            session.forward([span(session, np.array(bad, dtype=np.int64))])


@pytest.mark.parametrize("planted", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_an_error_and_not_a_token(planted: float, tmp_path: Path) -> None:
    weights = tiny.tensors(tiny.config())
    weights["lm_head.weight"][3] = planted
    path = tiny.write(tmp_path, "safetensors", tiny.config(), weights)
    session = numpy_engine.load(Checkpoint(open_model(path)), threads=1)
    with pytest.raises(EngineError, match="not finite"), np.errstate(invalid="ignore"):
        session.forward([span(session)])


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    weights = tiny.tensors(tiny.config("qwen2"))
    del weights["model.layers.1.self_attn.k_proj.bias"]
    file = open_model(tiny.write(tmp_path, "safetensors", tiny.config("qwen2"), weights))
    with pytest.raises(MissingTensor, match=r"layers\.1\.self_attn\.k_proj\.bias"):
        numpy_engine.load(Checkpoint(file), threads=1)


def test_what_computes_is_said(session: numpy_engine.NumpySession) -> None:
    assert (session.engine, session.kernel_set, session.threads) == ("numpy", "numpy", 1)
    assert (session.activations, session.kv_cache_dtype, session.max_positions) == ("float32", "float32", 256)


def test_loading_tells_the_bytes_of_every_tensor(tmp_path: Path) -> None:
    told: list[int] = []
    checkpoint = Checkpoint(open_model(tiny.write(tmp_path, "gguf")))
    numpy_engine.load(checkpoint, threads=1, progress=told.append)
    assert sum(told) == sum(info.n_bytes for info in checkpoint.file.tensors.values())
