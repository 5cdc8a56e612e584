"""config.json in both spellings, against transformers' own reading of it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.errors import AprError, BadMetadata, UnsupportedError
from apr.models._config import ModelConfig
from apr.models._config_hf import from_hf, to_hf
from apr.models._rope import inverse_frequencies
from config_variants import LONG, SHORT, VARIANTS, made

PATH = Path("config.json")


def document(model_type: str = "llama", **changes: Any) -> dict[str, Any]:
    return to_hf(tiny.config(model_type), torch_dtype="float32") | changes


def read(model_type: str = "llama", **changes: Any) -> ModelConfig:
    return from_hf(PATH, document(model_type, **changes))


def by_transformers(values: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(**values)


@pytest.mark.parametrize("variant", VARIANTS)
def test_writing_and_reading_is_identity(variant: str) -> None:
    config = made(variant)
    again = from_hf(PATH, json.loads(json.dumps(to_hf(config, torch_dtype="float32"))))
    assert again == config
    assert again.unread == () and again.defaulted == ()


@pytest.mark.parity
@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_reads_what_we_write_to_the_same_numbers(variant: str) -> None:
    config = made(variant)
    theirs = by_transformers(to_hf(config, torch_dtype="float32"))
    same = "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads vocab_size rms_norm_eps"
    for name in [*same.split(), "max_position_embeddings", "tie_word_embeddings"]:
        assert getattr(theirs, name) == getattr(config, name), name
    assert getattr(theirs, "head_dim", config.hidden_size // config.num_attention_heads) == config.head_dim
    assert getattr(theirs, "hidden_activation", getattr(theirs, "hidden_act", None)) == config.hidden_act
    assert getattr(theirs, "sliding_window", None) == config.sliding_window
    if config.layer_types:
        assert tuple(theirs.layer_types) == config.layer_types


@pytest.mark.parity
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_transformers_saves_is_read_without_leftovers(variant: str, tmp_path: Path) -> None:
    config = made(variant)
    by_transformers(to_hf(config, torch_dtype="float32")).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    again = from_hf(PATH, saved)
    assert "rope_parameters" in saved and again.unread == ()
    ours, theirs = (tuple(c.window(i) for i in range(c.num_hidden_layers)) for c in (config, again))
    assert (
        ours == theirs
        and again.rope_theta == config.rope_theta
        and again.tie_word_embeddings == config.tie_word_embeddings
    )
    for n_positions in (1, 64):
        expected, factor = inverse_frequencies(config, n_positions=n_positions)
        actual, factor_again = inverse_frequencies(again, n_positions=n_positions)
        np.testing.assert_array_equal(actual, expected)
        assert factor == factor_again
    assert again.rope_local_base_freq == config.rope_local_base_freq


def reference_frequencies(values: dict[str, Any], seq_len: int) -> tuple[np.ndarray, float]:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    theirs = by_transformers(values)
    frequencies, factor = ROPE_INIT_FUNCTIONS[theirs.rope_parameters["rope_type"]](
        theirs, device="cpu", seq_len=seq_len
    )
    return frequencies.numpy(), float(factor)


ROPES: dict[str, dict[str, Any]] = {
    "linear": {"factor": 2.5},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    "llama3 wide": {
        "factor": 32.0,
        "low_freq_factor": 1.5,
        "high_freq_factor": 2.0,
        "original_max_position_embeddings": 8192,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 32},
    "yarn betas": {"factor": 4.0, "original_max_position_embeddings": 4096, "beta_fast": 16.0, "beta_slow": 2.0},
    "yarn mscale": {"factor": 4.0, "original_max_position_embeddings": 64, "mscale": 0.7, "mscale_all_dim": 1.2},
    "yarn factor": {"factor": 4.0, "original_max_position_embeddings": 64, "attention_factor": 1.25},
    "yarn untruncated": {"factor": 4.0, "original_max_position_embeddings": 512, "truncate": False},
    "yarn below one": {"factor": 1.0, "original_max_position_embeddings": 64},
    "longrope": {"factor": 8.0, "original_max_position_embeddings": 32, "short_factor": SHORT, "long_factor": LONG},
    "longrope no factor": {"original_max_position_embeddings": 32, "short_factor": SHORT, "long_factor": LONG},
    "longrope attention": {
        "original_max_position_embeddings": 32,
        "short_factor": SHORT,
        "long_factor": LONG,
        "attention_factor": 1.5,
    },
}


@pytest.mark.parity
@pytest.mark.parametrize("name", ROPES)
@pytest.mark.parametrize("spelling", ["rope_parameters", "rope_scaling", "rope_scaling type"])
@pytest.mark.parametrize("seq_len", [16, 200])
def test_every_rope_type_gives_transformers_frequencies_in_every_spelling(
    name: str, spelling: str, seq_len: int
) -> None:
    parameters = {key: list(v) if isinstance(v, tuple) else v for key, v in ROPES[name].items()}
    kind = name.split()[0]
    plain = document()
    for key in ("rope_theta", "rope_scaling"):
        plain.pop(key)
    today = plain | {"rope_parameters": {"rope_type": kind, "rope_theta": 50000.0, **parameters}}
    given = {
        "rope_parameters": today,
        "rope_scaling": plain | {"rope_theta": 50000.0, "rope_scaling": {"rope_type": kind, **parameters}},
        "rope_scaling type": plain | {"rope_theta": 50000.0, "rope_scaling": {"type": kind, **parameters}},
    }[spelling]
    expected, factor = reference_frequencies(today, seq_len)
    config = from_hf(PATH, given)
    actual, actual_factor = inverse_frequencies(config, n_positions=seq_len)
    np.testing.assert_allclose(actual, expected, rtol=3e-6)
    assert actual_factor == pytest.approx(factor, rel=1e-6) and config.unread == ()


def test_su_is_longrope() -> None:
    scaling = {"type": "su", "short_factor": list(SHORT), "long_factor": list(LONG)}
    config = read("phi3", rope_scaling=scaling, original_max_position_embeddings=32)
    assert config.rope_scaling is not None and config.rope_scaling.rope_type == "longrope"
    assert config.rope_scaling.factor == 8.0 and config.rope_scaling.original_max_position_embeddings == 32


def test_the_outer_original_length_wins_as_in_transformers() -> None:
    scaling = {"type": "longrope", "short_factor": list(SHORT), "long_factor": list(LONG)}
    scaling |= {"original_max_position_embeddings": 64}
    config = read("phi3", rope_scaling=scaling, original_max_position_embeddings=32)
    assert config.rope_scaling is not None and config.rope_scaling.original_max_position_embeddings == 32


@pytest.mark.parity
@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_a_missing_key_means_what_it_means_to_transformers(model_type: str) -> None:
    needed = [
        "model_type",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
    ]
    bare = {key: value for key, value in document(model_type).items() if key in needed}
    bare |= {"hidden_size": 4096, "num_attention_heads": 32}
    theirs, ours = by_transformers(bare), from_hf(PATH, bare)
    for name in ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.head_dim == getattr(theirs, "head_dim", 128)
    assert ours.hidden_act == getattr(theirs, "hidden_activation", getattr(theirs, "hidden_act", None))
    assert ours.sliding_window == getattr(theirs, "sliding_window", None)
    assert ours.query_pre_attn_scalar == getattr(theirs, "query_pre_attn_scalar", None)
    if model_type == "gemma3_text":
        assert ours.rope_theta == theirs.rope_parameters["full_attention"]["rope_theta"]
        assert ours.rope_local_base_freq == theirs.rope_parameters["sliding_attention"]["rope_theta"]
    else:
        assert ours.rope_theta == theirs.rope_parameters["rope_theta"]
    assert {"rope_theta", "rms_norm_eps", "num_key_value_heads"} <= set(ours.defaulted)


@pytest.mark.parity
@pytest.mark.parametrize("first", [0, 1, 2, None])
def test_qwen2_windows_begin_at_max_window_layers(first: int | None) -> None:
    values = document("qwen2", use_sliding_window=True, sliding_window=8, num_hidden_layers=30)
    if first is not None:
        values["max_window_layers"] = first
    assert from_hf(PATH, values).layer_types == tuple(by_transformers(values).layer_types)


def test_qwen2_without_use_sliding_window_has_none() -> None:
    config = read("qwen2", use_sliding_window=False, sliding_window=8, max_window_layers=0)
    assert config.sliding_window is None and config.window(0) is None and config.unread == ()


@pytest.mark.parity
@pytest.mark.parametrize("pattern", [1, 2, 6, None])
def test_gemma3_patterns_are_transformers(pattern: int | None) -> None:
    values = document("gemma3_text", num_hidden_layers=13)
    values.pop("layer_types")
    if pattern is not None:
        values["sliding_window_pattern"] = pattern
    assert from_hf(PATH, values).layer_types == tuple(by_transformers(values).layer_types)


def test_gemma3_is_tied_unless_it_says_otherwise() -> None:
    values = document("gemma3_text")
    del values["tie_word_embeddings"]
    assert from_hf(PATH, values).tie_word_embeddings
    assert not from_hf(PATH, values | {"tie_word_embeddings": False}).tie_word_embeddings


def test_unknown_keys_are_reported() -> None:
    config = read(clip_qkv=8.0, rope_scaling={"rope_type": "linear", "factor": 2.0, "wobble": 1})
    assert config.unread == ("clip_qkv", "rope.wobble")


def test_a_class_name_stands_in_for_a_missing_model_type() -> None:
    values = document("qwen3")
    del values["model_type"]
    assert from_hf(PATH, values).model_type == "qwen3"
    with pytest.raises(BadMetadata, match="model_type is missing"):
        from_hf(PATH, {key: value for key, value in values.items() if key != "architectures"})


UNSUPPORTED: dict[str, dict[str, Any]] = {
    "quantised by 'gptq'": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "'mamba'": {"model_type": "mamba"},
    "rope type 'dynamic'; known: default, linear, llama3, yarn, longrope": {
        "rope_scaling": {"type": "dynamic", "factor": 2.0}
    },
    "mlp_bias is true": {"mlp_bias": True},
    "hidden_act is 'relu'": {"hidden_act": "relu"},
}


@pytest.mark.parametrize("sentence", UNSUPPORTED)
def test_what_we_do_not_compute_is_refused(sentence: str) -> None:
    with pytest.raises(UnsupportedError, match=sentence):
        read(**UNSUPPORTED[sentence])


INTEGERS = [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "sliding_window",
    "original_max_position_embeddings",
]
BAD: list[tuple[str, Any]] = [
    *((key, value) for key in INTEGERS for value in (-1, 0, True, 1.5, "64", 1 << 40)),
    *((key, value) for key in ("rms_norm_eps", "rope_theta") for value in (-1.0, 0, True, "1", 1e300)),
    *((key, value) for key in ("tie_word_embeddings", "attention_bias") for value in (1, "true")),
    *(("hidden_act", value) for value in (3, "")),
    *(("rope_scaling", value) for value in ("linear", 2.0, ["linear"])),
    *(("final_logit_softcapping", value) for value in (-1, "x")),
    *(("partial_rotary_factor", value) for value in (0.0, 1.5)),
    ("rope_theta", 1.0),
]


@pytest.mark.parametrize(("key", "value"), BAD)
def test_a_bad_value_names_its_key(key: str, value: Any) -> None:
    with pytest.raises(BadMetadata, match=key):
        read("mistral", **{key: value})


@pytest.mark.parametrize(
    ("key", "scaling"),
    [
        ("factor", {"rope_type": "linear"}),
        ("factor", {"rope_type": "yarn", "factor": "4"}),
        ("rope_type", {"rope_type": 3}),
        ("low_freq_factor", {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": -1}),
        ("low_freq_factor", {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}),
        ("long_factor", {"rope_type": "longrope", "factor": 8.0, "short_factor": list(SHORT)}),
        ("short_factor", {"rope_type": "longrope", "factor": 8.0, "short_factor": [1.0], "long_factor": list(LONG)}),
    ],
)
def test_a_bad_rope_parameter_names_its_key(key: str, scaling: dict[str, Any]) -> None:
    with pytest.raises(BadMetadata, match=key):
        read(rope_scaling=scaling)


@pytest.mark.parametrize(
    "values",
    [
        {"layer_types": ["full_attention"]},
        {"layer_types": ["full_attention", "linear_attention"]},
        {"layer_types": ["full_attention", ["x"]]},
        {"layer_types": "full_attention"},
        {"layer_types": None, "max_window_layers": "1"},
    ],
)
def test_bad_layer_types_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadMetadata, match=r"layer_types|max_window_layers"):
        read("qwen2", use_sliding_window=True, sliding_window=8, **values)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(BadMetadata, match="4 attention heads cannot share 3"):
        read(num_key_value_heads=3)
    with pytest.raises(BadMetadata, match="no multiple of 4 attention heads"):
        read(head_dim=None, hidden_size=65)
    with pytest.raises(BadMetadata, match="head_dim is 15"):
        read(head_dim=15)


@pytest.mark.parametrize(
    "key", ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"]
)
def test_a_missing_dimension_is_named(key: str) -> None:
    values = document()
    del values[key]
    with pytest.raises(BadMetadata, match=f"the key {key} is missing"):
        from_hf(PATH, values)


@pytest.mark.parametrize("key", sorted(document("gemma3_text") | document("qwen2") | document("phi3")))
@pytest.mark.parametrize("value", [None, -1, "x", [], {}, [[]], {"full_attention": 1}, True, 1e400])
def test_no_value_of_any_key_crashes_the_reader(key: str, value: Any) -> None:
    for model_type in ("gemma3_text", "qwen2"):
        with contextlib.suppress(AprError):
            from_hf(PATH, document(model_type) | {"use_sliding_window": True} | {key: value})
