"""GGUF metadata to a configuration and back, against known models and llama.cpp's rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.errors import BadMetadata, UnsupportedError
from apr.formats import open_model
from apr.models._checkpoint import Checkpoint, expected_tensors, read_config
from apr.models._config import ModelConfig, RopeScaling
from apr.models._config_gguf import every_nth, from_gguf, to_gguf
from apr.models._rope import inverse_frequencies, llama3_factors
from config_variants import LLAMA3, LONG, LONGROPE, SHORT, VARIANTS, made

PATH = Path("model.gguf")
# what GGUF cannot hold: the query's scale, which a size table gives, and a pattern that is not "every n-th"
NOT_SAID = {"gemma3 query scale", "qwen2 window"}


def shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    from apr import models

    architecture = models.for_model_type(config.model_type).Model
    return {tiny.gguf_name_of(name, architecture): shape for name, shape in expected_tensors(config).items()}


def factors_of(config: ModelConfig) -> dict[str, tuple[float, ...]]:
    scaling = config.rope_scaling
    if scaling is not None and scaling.rope_type == "llama3":
        return {"rope_freqs.weight": tuple(llama3_factors(config).tolist())}
    if scaling is not None and scaling.rope_type == "longrope":
        return {"rope_factors_short.weight": scaling.short_factor, "rope_factors_long.weight": scaling.long_factor}
    return {}


def read(config: ModelConfig, **changes: Any) -> ModelConfig:
    """Write `config`, change keys (None drops one; dots are written as two underscores), read."""
    keys = to_gguf(config)
    for name, value in changes.items():
        keys[name.replace("__", ".")] = value
    keys = {key: value for key, value in keys.items() if value is not None}
    return from_gguf(PATH, keys, shapes=shapes_of(config), frequency_factors=factors_of(config))


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in NOT_SAID])
def test_writing_and_reading_is_identity(variant: str) -> None:
    config = made(variant)
    again = read(config)
    assert again.unread == () and again.defaulted == ()
    if "llama3" in variant:  # GGUF holds the factors and not their parameters
        expected, actual = (inverse_frequencies(c, n_positions=1)[0] for c in (config, again))
        np.testing.assert_allclose(actual, expected, rtol=1e-6)
        again = dataclasses.replace(again, rope_scaling=config.rope_scaling)
    same_file = {"mistral": "llama"}  # GGUF has one name for both
    assert again == dataclasses.replace(config, model_type=same_file.get(config.model_type, config.model_type))


REAL = {
    "smollm2": {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49152, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0, "tie_word_embeddings": True, "rope_scaling": None, "hidden_act": "silu",
    },
    "qwen2.5-coder:0.5b": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 151936, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0, "tie_word_embeddings": False, "rope_scaling": None, "sliding_window": None,
    },
}  # fmt: skip


@pytest.mark.real
@pytest.mark.parametrize("alias", REAL)
def test_real_files_say_what_their_originals_say(alias: str, real_model: Callable[[str], Path]) -> None:
    with open_model(real_model(alias)) as file:
        config = read_config(file)
        Checkpoint(file).check()
    assert {key: getattr(config, key) for key in REAL[alias]} == REAL[alias]
    assert config.defaulted == () and config.unread == ()


def test_the_head_is_tied_when_the_file_has_no_output() -> None:
    shapes = shapes_of(tiny.config())
    keys = to_gguf(tiny.config())
    assert not from_gguf(PATH, keys, shapes=shapes, frequency_factors={}).tie_word_embeddings
    del shapes["output.weight"]
    assert from_gguf(PATH, keys, shapes=shapes, frequency_factors={}).tie_word_embeddings


REQUIRED = [
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(BadMetadata, match=f"the key {key} is missing"):
        read(tiny.config(), **{f"llama.{key}": None})


def test_a_missing_architecture_or_embedding_is_named() -> None:
    with pytest.raises(BadMetadata, match=r"the key general\.architecture is missing"):
        read(tiny.config(), general__architecture=None)
    with pytest.raises(BadMetadata, match=r"rows of token_embd\.weight is 0"):
        from_gguf(PATH, to_gguf(tiny.config()), shapes={}, frequency_factors={})
    with pytest.raises(UnsupportedError, match=r"'mamba'.*known: gemma3"):
        read(tiny.config(), general__architecture="mamba")


@pytest.mark.parametrize(
    "key", [*REQUIRED, "context_length", "rope.freq_base", "attention.head_count_kv", "rope.dimension_count"]
)
@pytest.mark.parametrize("value", [-1, 0, True, "8", 1 << 45, [1], float("nan")])
def test_a_bad_value_names_its_key(key: str, value: Any) -> None:
    with pytest.raises(BadMetadata, match=key):
        read(tiny.config(), **{f"llama.{key}": value})


def test_defaults_are_llama_cpps_and_reported() -> None:
    config = read(tiny.config(), **{"llama.rope.freq_base": None, "llama.context_length": None})
    assert config.rope_theta == 10000.0 and config.defaulted == ("llama.context_length", "llama.rope.freq_base")


def test_unknown_keys_of_the_architecture_are_reported() -> None:
    config = read(tiny.config(), llama__attention__clamp_kqv=8.0, general__name="x")
    assert config.unread == ("llama.attention.clamp_kqv",)


def test_more_rotated_than_a_head_has_is_refused() -> None:
    with pytest.raises(BadMetadata, match="expected a share above 0 and at most 1"):
        read(tiny.config(), llama__rope__dimension_count=32)


def test_value_heads_of_another_size_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="value heads"):
        read(tiny.config(), **{"llama.attention.key_length": 16, "llama.attention.value_length": 32})


@pytest.mark.parity
@pytest.mark.parametrize(
    "scaling", [LLAMA3, dataclasses.replace(LLAMA3, factor=32.0, low_freq_factor=1.5, high_freq_factor=2.5)]
)
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
def test_rope_freqs_hold_llama_cpps_factors(scaling: RopeScaling, theta: float) -> None:
    from math import pi

    config = tiny.config(rope_scaling=scaling, rope_theta=theta)
    expected = []
    for i in range(0, 16, 2):  # llama.cpp, convert_hf_to_gguf.py, LlamaModel.generate_extra_tensors
        wavelength = 2 * pi * theta ** (i / 16)
        low, high = 32 / scaling.low_freq_factor, 32 / scaling.high_freq_factor
        if wavelength < high:
            expected.append(1.0)
        elif wavelength > low:
            expected.append(scaling.factor)
        else:
            smooth = (32 / wavelength - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
            expected.append(1 / ((1 - smooth) / scaling.factor + smooth))
    np.testing.assert_allclose(llama3_factors(config), expected, rtol=2e-6)


@pytest.mark.parametrize(
    "factors", [(), (1.0,) * 7, (1.0,) * 9, (0.0,) * 8, (-1.0,) * 8, (float("nan"),) * 8, (float("inf"),) * 8]
)
@pytest.mark.parametrize("name", ["rope_freqs.weight", "rope_factors_long.weight"])
def test_bad_rotary_factors_are_refused(name: str, factors: tuple[float, ...]) -> None:
    with pytest.raises(BadMetadata, match=f"{name} must hold 8 factors"):
        from_gguf(PATH, to_gguf(tiny.config()), shapes=shapes_of(tiny.config()), frequency_factors={name: factors})


def test_longrope_is_read_from_its_tensors() -> None:
    scaling = read(tiny.config("phi3", rope_scaling=LONGROPE)).rope_scaling
    assert scaling is not None and scaling.rope_type == "longrope"
    assert (scaling.short_factor, scaling.long_factor, scaling.factor) == (SHORT, LONG, 8.0)
    with pytest.raises(BadMetadata, match="rope_factors_long"):
        read(tiny.config(), **{"llama.rope.scaling.type": "longrope"})


@pytest.mark.parametrize("kind", ["dynamic", 3])
def test_an_unknown_rope_type_is_refused(kind: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"rope scaling .*known: none, linear, yarn, longrope"):
        read(tiny.config(), **{"llama.rope.scaling.type": kind})


def test_the_older_linear_key_is_read() -> None:
    assert read(tiny.config(), **{"llama.rope.scale_linear": 2.0}).rope_scaling == RopeScaling("linear", 2.0)
    assert read(tiny.config(), **{"llama.rope.scaling.type": "none"}).rope_scaling is None


def test_yarns_attention_factor_multiplies_yarns_own_as_in_ggml() -> None:
    yarn = RopeScaling("yarn", 4.0, original_max_position_embeddings=32)
    own = 0.1 * np.log(4.0) + 1.0
    read_back = read(tiny.config(rope_scaling=yarn), **{"llama.rope.scaling.attn_factor": 0.5}).rope_scaling
    assert read_back is not None and read_back.attention_factor == pytest.approx(0.5 * own)
    keys = to_gguf(tiny.config(rope_scaling=dataclasses.replace(yarn, attention_factor=1.25)))
    assert keys["llama.rope.scaling.attn_factor"] == pytest.approx(1.25 / own)
    assert "llama.rope.scaling.attn_factor" not in to_gguf(tiny.config(rope_scaling=yarn))


@pytest.mark.parametrize(
    "config",
    [
        made("qwen2 window"),
        tiny.config("gemma3_text", layer_types=("full_attention", "sliding_attention")),
        tiny.config(
            "gemma3_text",
            num_hidden_layers=4,
            layer_types=("sliding_attention", "full_attention") + ("sliding_attention",) * 2,
        ),
    ],
)
def test_irregular_layer_patterns_are_refused(config: ModelConfig) -> None:
    with pytest.raises(UnsupportedError, match="which layers"):
        to_gguf(config)


@pytest.mark.parametrize("layers", [1, 6, 13])
@pytest.mark.parametrize("every", [2, 3, 6])
def test_regular_patterns_come_back(layers: int, every: int) -> None:
    config = tiny.config("gemma3_text", num_hidden_layers=layers, layer_types=every_nth(every, layers))
    assert read(config).layer_types == config.layer_types


def test_the_largest_gemma_scales_its_queries_by_another_rule() -> None:
    config = tiny.config("gemma3_text", num_hidden_layers=62, layer_types=every_nth(6, 62), head_dim=32)
    assert read(config).query_pre_attn_scalar == 64 / 4
    assert read(tiny.config("gemma3_text", head_dim=32)).query_pre_attn_scalar == 32.0
