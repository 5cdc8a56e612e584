"""Every architecture against transformers, on tiny random weights: logits, cached steps, batches, every format."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr import models
from apr.engines import numpy as numpy_engine
from apr.errors import UnsupportedError
from apr.formats import open_model
from apr.models._checkpoint import Checkpoint
from apr.models._config import ModelConfig, RopeScaling
from apr.models._decoder import Span

pytestmark = pytest.mark.parity

BOUND = 2e-5  # of logits of magnitude 1; float32 sums in another order
TOKEN_IDS = np.random.default_rng(7).integers(0, 250, 40)
LLAMA3 = RopeScaling("llama3", 8.0, original_max_position_embeddings=32, low_freq_factor=1.0, high_freq_factor=4.0)
YARN = RopeScaling("yarn", 4.0, original_max_position_embeddings=32)
SHORT, LONG = tuple(1.0 + 0.1 * i for i in range(8)), tuple(2.0 + 0.5 * i for i in range(8))
LONGROPE = RopeScaling("longrope", 8.0, original_max_position_embeddings=32, short_factor=SHORT, long_factor=LONG)
GEMMA_LAYERS = {"layer_types": ("sliding_attention",) * 2 + ("full_attention",), "num_hidden_layers": 3}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama biased": ("llama", {"attention_bias": True}),
    "llama eps": ("llama", {"rms_norm_eps": 1e-2}),
    "llama wide heads": ("llama", {"head_dim": 32}),
    "llama one kv head": ("llama", {"num_key_value_heads": 1}),
    "llama linear": ("llama", {"rope_scaling": RopeScaling("linear", 2.0)}),
    "llama llama3": ("llama", {"rope_scaling": LLAMA3}),
    "llama yarn": ("llama", {"rope_scaling": YARN}),
    "mistral": ("mistral", {}),
    "mistral window": ("mistral", {"sliding_window": 8}),
    "qwen2": ("qwen2", {}),
    "qwen2 window": ("qwen2", {"sliding_window": 8, "layer_types": ("full_attention", "sliding_attention")}),
    "qwen3": ("qwen3", {}),
    "qwen3 yarn": ("qwen3", {"rope_scaling": YARN, "tie_word_embeddings": True}),
    "gemma3": ("gemma3_text", {}),
    "gemma3 scaled": ("gemma3_text", {"rope_scaling": RopeScaling("linear", 8.0), **GEMMA_LAYERS}),
    "gemma3 query scale": ("gemma3_text", {"query_pre_attn_scalar": 24.0}),
    "phi3": ("phi3", {}),
    "phi3 window": ("phi3", {"sliding_window": 8}),
    "phi3 longrope": ("phi3", {"rope_scaling": LONGROPE}),
}


def reference_logits(folder: Path, token_ids: np.ndarray = TOKEN_IDS) -> np.ndarray:
    """transformers' float32 logits, [n_tokens, vocab_size], for the model in a folder."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        logits: np.ndarray = model(torch.from_numpy(token_ids)[None]).logits[0].numpy()
    return logits


def session(path: Path) -> numpy_engine.NumpySession:
    return numpy_engine.load(Checkpoint(open_model(path)), threads=1)


def all_rows(ours: numpy_engine.NumpySession, token_ids: np.ndarray = TOKEN_IDS) -> np.ndarray:
    return ours.forward([Span(token_ids, ours.new_cache())], rows="all")


def made(variant: str) -> ModelConfig:
    model_type, changes = VARIANTS[variant]
    return tiny.config(model_type, **changes)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_transformers(variant: str, tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "safetensors", made(variant))
    expected = reference_logits(folder)
    ours = session(folder)
    actual = all_rows(ours)
    assert expected.std() > 0.05
    np.testing.assert_allclose(actual, expected, atol=BOUND * max(1.0, np.abs(expected).max()), rtol=0)


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
@pytest.mark.parametrize("file_format", ["gguf", "apr"])
def test_the_other_formats_hold_the_same_model(model_type: str, file_format: str, tmp_path: Path) -> None:
    expected = reference_logits(tiny.write(tmp_path / "hf", "safetensors", tiny.config(model_type)))
    ours = session(tiny.write(tmp_path / "other", file_format, tiny.config(model_type)))
    actual = all_rows(ours)
    np.testing.assert_allclose(actual, expected, atol=BOUND * max(1.0, np.abs(expected).max()), rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_steps_equal_a_full_pass(variant: str, tmp_path: Path) -> None:
    if "longrope" in variant:
        pytest.skip(
            "LongRoPE changes its frequencies at its original length, so cached keys differ by design, as in transformers"
        )
    ours = session(tiny.write(tmp_path, "safetensors", made(variant)))
    full = all_rows(ours)
    cache = ours.new_cache()
    steps = [ours.forward([Span(part, cache)])[-1] for part in np.split(TOKEN_IDS, [7, 8, 9, 20, 21])]
    np.testing.assert_allclose(np.stack(steps), full[[6, 7, 8, 19, 20, 39]], atol=BOUND, rtol=0)
    assert cache.length == len(TOKEN_IDS)


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_a_batch_of_unequal_prompts_equals_one_by_one(model_type: str, tmp_path: Path) -> None:
    ours = session(tiny.write(tmp_path, "safetensors", tiny.config(model_type)))
    prompts = [TOKEN_IDS[:5], TOKEN_IDS[5:25], TOKEN_IDS[3:4]]
    alone = np.concatenate([ours.forward([Span(prompt, ours.new_cache())]) for prompt in prompts])
    caches = [ours.new_cache() for _ in prompts]
    together = ours.forward([Span(p, c) for p, c in zip(prompts, caches, strict=True)])
    np.testing.assert_allclose(together, alone, atol=BOUND, rtol=0)
    assert [c.length for c in caches] == [5, 20, 1]
    again = ours.forward([Span(TOKEN_IDS[:1], c) for c in caches])
    assert again.shape == (3, tiny.VOCAB_SIZE)


def test_longrope_takes_its_long_factors_beyond_its_original_length(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "safetensors", made("phi3 longrope"))
    ours = session(folder)
    for n_tokens in (20, 40):  # original length 32
        actual = all_rows(ours, TOKEN_IDS[:n_tokens])
        np.testing.assert_allclose(actual, reference_logits(folder, TOKEN_IDS[:n_tokens]), atol=5 * BOUND, rtol=0)


PLANTED: dict[str, tuple[str, dict[str, Any]]] = {
    "rope base": ("llama", {"rope_theta": 20000.0}),
    "norm epsilon": ("qwen2", {"rms_norm_eps": 1e-4}),
    "window": ("gemma3_text", {"sliding_window": 9}),
    "local rope base": ("gemma3_text", {"rope_local_base_freq": 20000.0}),
    "scaling": ("llama", {"rope_scaling": RopeScaling("linear", 2.0)}),
    "activation": ("qwen3", {"hidden_act": "gelu_pytorch_tanh"}),
    "head sharing": ("phi3", {"attn_logit_softcapping": 1.0}),
}


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_moves_the_logits(defect: str, tmp_path: Path) -> None:
    model_type, changes = PLANTED[defect]
    good = tiny.config(model_type)
    weights = tiny.tensors(good)
    folder = tiny.write(tmp_path, "safetensors", good, weights)
    expected = reference_logits(folder)
    checkpoint = Checkpoint(open_model(folder))
    checkpoint.config = dataclasses.replace(checkpoint.config, **changes)
    ours = numpy_engine.load(checkpoint, threads=1)
    actual = all_rows(ours)
    assert np.abs(actual - expected).max() > 2 * BOUND * max(1.0, np.abs(expected).max())


def test_an_architecture_we_do_not_have_lists_those_we_have() -> None:
    with pytest.raises(UnsupportedError, match=r"mamba.*gemma3_text, llama, mistral, phi3, qwen2, qwen3"):
        models.for_model_type("mamba")
