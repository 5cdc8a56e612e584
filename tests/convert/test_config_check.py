"""Configurations compared by what they mean."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tiny
from apr.convert import _config_check
from apr.models._config import RopeScaling

LLAMA3 = RopeScaling("llama3", 8.0, 8192, low_freq_factor=1.0, high_freq_factor=4.0)


@pytest.mark.parametrize(
    "change",
    [
        {"rope_theta": 10001.0},
        {"rms_norm_eps": 2e-6},
        {"num_key_value_heads": 4},
        {"sliding_window": 8},
        {"tie_word_embeddings": True},
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"final_logit_softcapping": 30.0},
        {"partial_rotary_factor": 0.5},
        {"model_type": "qwen2"},
        {"rope_scaling": RopeScaling("linear", 2.0)},
        {"rope_scaling": LLAMA3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_that_matters_is_compared(change: dict[str, object]) -> None:
    config = tiny.config("llama", rope_theta=10000.0)
    assert _config_check.differences(config, replace(config, **change))
    assert _config_check.differences(config, config) == []


def test_spellings_of_one_meaning_are_no_difference() -> None:
    mistral = tiny.config("mistral", rms_norm_eps=9.999999974752427e-07)
    llama = tiny.config("llama", rms_norm_eps=1e-6)
    assert _config_check.differences(mistral, llama) == []
    assert "one name for both" in _config_check.notes(mistral, llama)[0]
    windows = tiny.config(sliding_window=8)
    assert _config_check.differences(windows, replace(windows, layer_types=("sliding_attention",) * 2)) == []
    assert _config_check.differences(windows, replace(windows, layer_types=("full_attention",) * 2))


def test_llama3_factors_stand_for_their_parameters_and_others_do_not() -> None:
    from apr.models._rope import llama3_factors

    config = tiny.config(rope_scaling=LLAMA3, rope_theta=500000.0)
    factors = tuple(llama3_factors(config).tolist())
    as_gguf = replace(config, rope_scaling=RopeScaling("llama3", 8.0, 8192, long_factor=factors))
    assert _config_check.differences(config, as_gguf) == []
    other = replace(config, rope_scaling=replace(LLAMA3, factor=32.0))
    assert "other frequencies" in _config_check.differences(other, as_gguf)[0]
