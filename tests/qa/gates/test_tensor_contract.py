"""Census, shapes, ties; dead, duplicated and outlying tensors, each planted, and healthy models of many layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import tiny
from judged_models import UP, altered, codes, one, weights_of

GATE = "tensor_contract"
DEEP = {"num_hidden_layers": 12}
FIFTH = "model.layers.5."


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_missing_bias_is_found(file_format: str, tmp_path: Path) -> None:
    lost = "model.layers.1.self_attn.k_proj.bias"
    result = one(altered(tmp_path, file_format, {lost: None}, model_type="qwen2"), GATE)
    assert codes(result) == {("fail", "missing")} and result.findings[0].where == {"tensor": lost}


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_transposed_matrix_is_found(file_format: str, tmp_path: Path) -> None:
    result = one(altered(tmp_path, file_format, {UP: weights_of()[UP].T.copy()}), GATE)
    assert codes(result) == {("fail", "shape")} and "[64, 96], the configuration says [96, 64]" in result.message


@pytest.mark.parametrize("file_format", ["safetensors", "apr"])
def test_a_stranger_is_found(file_format: str, tmp_path: Path) -> None:
    changes = {"model.layers.2.mlp.up_proj.weight": weights_of()[UP]}
    assert codes(one(altered(tmp_path, file_format, changes), GATE)) == {("fail", "stranger")}


def test_a_buffer_that_every_reader_computes_anew_is_no_stranger(tmp_path: Path) -> None:
    changes = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, dtype=np.float32)}
    result = one(altered(tmp_path, "safetensors", changes), GATE)
    assert result.status == "pass" and "ignored" in {f.code for f in result.findings}


@pytest.mark.parametrize("file_format", ["safetensors", "apr"])
def test_a_bias_that_the_configuration_does_without_is_found(file_format: str, tmp_path: Path) -> None:
    changes = {"model.layers.0.self_attn.q_proj.bias": np.linspace(-1, 1, 64, dtype=np.float32)}
    assert codes(one(altered(tmp_path, file_format, changes), GATE)) == {("fail", "unexpected")}


def test_a_tied_head_may_only_be_a_copy(tmp_path: Path) -> None:
    embedding = weights_of(tie_word_embeddings=True)["model.embed_tokens.weight"]
    changes = {"copy": embedding, "other": embedding + np.float32(0.01), "short": embedding[:100]}
    found = {}
    for name, head in changes.items():
        path = altered(tmp_path / name, "safetensors", {"lm_head.weight": head}, tie_word_embeddings=True)
        found[name] = {(f.status, f.code) for f in one(path, GATE).findings if f.code not in ("census", "values")}
    assert found == {
        "copy": {("pass", "tied-copy")},
        "other": {("fail", "unexpected")},
        "short": {("fail", "unexpected")},
    }


def test_a_tied_head_in_another_encoding_is_undecided(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = altered(tmp_path, "safetensors", {}, tie_word_embeddings=True)
    weights = load_file(folder / "model.safetensors")
    head = weights["model.embed_tokens.weight"].astype(np.float16)
    save_file(weights | {"lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
    assert codes(one(folder, GATE)) == {("undecided", "tied-recoded")}


def test_an_architecture_that_we_do_not_run_is_undecided(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_tensor("x.weight", np.ones((3, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert codes(one(path, GATE)) == {("undecided", "unsupported-error")}


# ---- dead and duplicated


@pytest.mark.parametrize(
    ("model_type", "file_format", "first", "second"),
    [
        ("llama", "gguf", "model.layers.0.mlp.up_proj.weight", UP),
        ("qwen2", "safetensors", "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.v_proj.weight"),
        ("qwen2", "apr", "model.layers.0.self_attn.q_proj.bias", "model.layers.1.self_attn.q_proj.bias"),
        ("gemma3_text", "gguf", "model.layers.0.input_layernorm.weight", "model.layers.1.input_layernorm.weight"),
        ("qwen3", "apr", "model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.weight"),
    ],
)
def test_a_tensor_written_in_the_place_of_another_is_found(
    model_type: str, file_format: str, first: str, second: str, tmp_path: Path
) -> None:
    changes = {second: weights_of(model_type)[first]}
    result = one(altered(tmp_path, file_format, changes, model_type=model_type), GATE)
    assert codes(result) == {("fail", "duplicate")}
    assert {result.findings[-2].where["tensor"], result.findings[-2].where["other"]} == {first, second}


def test_a_head_that_is_the_embedding_of_an_untied_model_is_no_duplicate(tmp_path: Path) -> None:
    changes = {"lm_head.weight": weights_of()["model.embed_tokens.weight"]}
    assert one(altered(tmp_path, "gguf", changes), GATE).status == "pass"


def test_norms_of_one_value_are_no_duplicates(tmp_path: Path) -> None:
    changes = {name: np.ones_like(w) for name, w in weights_of().items() if name.endswith("norm.weight")}
    assert one(altered(tmp_path, "safetensors", changes), GATE).status == "pass"


@pytest.mark.parametrize("file_format", tiny.FORMATS)
@pytest.mark.parametrize("axis", [0, 1])
def test_rows_and_columns_of_zeros_are_dead(axis: int, file_format: str, tmp_path: Path) -> None:
    values = weights_of("qwen3")[UP].copy()
    values[(slice(None),) * axis + (slice(16, 20),)] = 0
    result = one(altered(tmp_path, file_format, {UP: values}, model_type="qwen3"), GATE)
    assert codes(result) == {("fail", "dead")}
    assert result.findings[1].where[("rows", "columns")[axis]] == [16, 17, 18, 19]


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_token_that_text_is_made_of_without_an_embedding_is_dead(file_format: str, tmp_path: Path) -> None:
    values = weights_of()["model.embed_tokens.weight"].copy()
    values[[65, 300]] = 0  # 300 is padding
    result = one(altered(tmp_path, file_format, {"model.embed_tokens.weight": values}), GATE)
    assert codes(result) == {("fail", "dead")} and result.findings[1].where["rows"] == [65]


def test_a_bias_of_zeros_in_one_layer_alone_is_dead(tmp_path: Path) -> None:
    changes = {"model.layers.1.self_attn.k_proj.bias": np.zeros(32, dtype=np.float32)}
    assert codes(one(altered(tmp_path, "gguf", changes, model_type="qwen2"), GATE)) == {("fail", "dead")}


# ---- out of line


@pytest.mark.parametrize(
    ("model_type", "file_format", "name", "factor"),
    [
        ("llama", "gguf", "mlp.up_proj.weight", 1.5),
        ("llama", "safetensors", "self_attn.q_proj.weight", 0.5),
        ("qwen2", "apr", "mlp.down_proj.weight", 8.0),
        ("qwen3", "gguf", "self_attn.v_proj.weight", 2.0),
        ("phi3", "gguf", "self_attn.qkv_proj.weight", 1.6),
        ("mistral", "safetensors", "post_attention_layernorm.weight", 3.0),
    ],
)
def test_a_layer_of_another_size_than_those_around_it_is_found(
    model_type: str, file_format: str, name: str, factor: float, tmp_path: Path
) -> None:
    values = weights_of(model_type, **DEEP)[FIFTH + name] * np.float32(factor)
    result = one(altered(tmp_path, file_format, {FIFTH + name: values}, model_type=model_type, **DEEP), GATE)
    assert ("fail", "size-outlier") in codes(result)
    assert {f.where["tensor"] for f in result.findings if f.status == "fail"} == {FIFTH + name}


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_layer_with_many_more_zeros_than_those_around_it_is_found(file_format: str, tmp_path: Path) -> None:
    name = FIFTH + "mlp.gate_proj.weight"
    values = weights_of(**DEEP)[name].copy()
    lost = np.random.default_rng(1).random(values.shape) < 0.4
    # what is left is larger, so that its size is like that of the others
    values = np.where(lost, 0, values / np.sqrt(0.6)).astype(np.float32)
    result = one(altered(tmp_path, file_format, {name: values}, **DEEP), GATE)
    assert codes(result) == {("fail", "density-outlier")} and result.measure["z"] > result.measure["bound"]


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_norm_with_one_added_is_found(file_format: str, tmp_path: Path) -> None:
    name = FIFTH + "input_layernorm.weight"
    changes: dict[str, Any] = {
        k: 0.1 * v for k, v in weights_of(**DEEP).items() if k.endswith("input_layernorm.weight")
    }
    changes[name] = changes[name] + np.float32(1)
    result = one(altered(tmp_path, file_format, changes, **DEEP), GATE)
    assert codes(result) == {("fail", "norm-offset")} and result.findings[1].where["tensor"] == name


def test_a_huge_value_is_out_of_line_and_no_crash(tmp_path: Path) -> None:
    values = weights_of(**DEEP)[FIFTH + "mlp.up_proj.weight"].copy()
    values[0, 0] = 1e30
    result = one(altered(tmp_path, "gguf", {FIFTH + "mlp.up_proj.weight": values}, **DEEP), GATE)
    assert codes(result) == {("fail", "size-outlier")}


@pytest.mark.parametrize(
    ("model_type", "file_format"),
    [("llama", "gguf"), ("qwen2", "apr"), ("qwen3", "safetensors"), ("gemma3_text", "gguf"), ("phi3", "safetensors")],
)
def test_healthy_models_of_many_layers_pass(model_type: str, file_format: str, tmp_path: Path) -> None:
    config = dict(DEEP)
    if model_type == "gemma3_text":
        config["layer_types"] = ("sliding_attention", "full_attention") * 6  # type: ignore[assignment]
    result = one(altered(tmp_path, file_format, {}, model_type=model_type, **config), GATE)
    assert result.status == "pass" and result.findings[-1].measure["n_layers"] == 12


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", pytest.param("qwen2.5-coder:0.5b", marks=pytest.mark.slow)])
def test_real_models_have_no_dead_copied_or_outlying_tensor(alias: str, real_model: Callable[[str], Path]) -> None:
    result = one(real_model(alias), GATE)
    assert codes(result) == set() and result.findings[-1].measure["n_found"] == 0
