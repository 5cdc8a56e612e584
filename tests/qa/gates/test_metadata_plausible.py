"""Hyper-parameters that cannot be right, each planted in a file; healthy ones, published and of no table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import tiny
from apr.parity import _families
from apr.qa._judged import Judged
from apr.qa.gate import Finding
from apr.qa.gates import metadata_plausible
from judged_models import codes, one, reconfigured
from mutants._patient import Patient, open_patient

GATE = "metadata_plausible"


def changed(
    tmp_path: Path, file_format: str, edit: Callable[[Patient], Any], model_type: str = "llama", **config: Any
) -> Path:
    patient = open_patient(tiny.write(tmp_path / "healthy", file_format, tiny.config(model_type, **config)))
    edit(patient)
    return patient.save(tmp_path / "sick")


@pytest.mark.parametrize(
    ("file_format", "model_type", "key", "value", "code"),
    [
        ("gguf", "llama", "rope_theta", 3.0, "value"),
        ("safetensors", "qwen2", "rope_theta", 1e12, "value"),
        ("apr", "qwen3", "rms_norm_eps", 0.5, "value"),
        ("safetensors", "mistral", "rms_norm_eps", 1e-12, "value"),
        ("gguf", "qwen2", "max_position_embeddings", 8, "value"),
        ("gguf", "llama", "num_key_value_heads", 4, "value"),
        ("safetensors", "qwen3", "num_hidden_layers", 1, "value"),
        ("safetensors", "llama", "num_attention_heads", 2, "value"),
        ("gguf", "qwen2", "intermediate_size", 64, "value"),
        ("apr", "llama", "rms_norm_eps", 5e-3, "beyond-family"),
        ("gguf", "phi3", "rope_theta", 1e8, "beyond-family"),
    ],
)
def test_a_value_that_cannot_be_right_is_found(
    file_format: str, model_type: str, key: str, value: float, code: str, tmp_path: Path
) -> None:
    result = one(changed(tmp_path, file_format, lambda patient: patient.set(key, value), model_type), GATE)
    assert codes(result) == {("fail", code)}
    assert {f.where["key"] for f in result.findings if f.status == "fail"} == {key}


@pytest.mark.parametrize("file_format", ["gguf", "safetensors"])
def test_a_rotary_base_that_is_left_out_is_undecided(file_format: str, tmp_path: Path) -> None:
    result = one(changed(tmp_path, file_format, lambda patient: patient.drop("rope_theta"), "qwen2"), GATE)
    assert codes(result) == {("undecided", "left-out")} and result.findings[0].where["key"] == "rope_theta"


@pytest.mark.parametrize(
    ("model_type", "key", "value"),
    [
        ("qwen2", "rope_theta", 10000.0),  # every Qwen2 model for 32,768 tokens has 1e6
        ("qwen3", "rope_theta", 10000.0),
        ("gemma3_text", "rope_local_base_freq", 1e6),
        ("qwen2", "hidden_act", "gelu_pytorch_tanh"),
    ],
)
def test_a_value_that_no_relative_has_is_undecided(model_type: str, key: str, value: Any, tmp_path: Path) -> None:
    plain = {"max_position_embeddings": 32768, "rope_theta": 1e6}
    result = one(tiny.write(tmp_path, "safetensors", tiny.config(model_type, **(plain | {key: value}))), GATE)
    assert codes(result) == {("undecided", "unlike-family")} and result.findings[0].where["key"] == key


def test_llama_is_everybodys_architecture(tmp_path: Path) -> None:
    config = tiny.config("llama", max_position_embeddings=2048, rope_theta=100000.0)
    assert one(tiny.write(tmp_path, "gguf", config), GATE).status == "pass"


def test_the_case_of_the_architecture_is_found(tmp_path: Path) -> None:
    folder = reconfigured(
        tiny.write(tmp_path, "safetensors", tiny.config("qwen2")), lambda config: config.update(model_type="Qwen2")
    )
    result = one(folder, GATE)
    assert ("fail", "architecture-case") in codes(result)
    assert result.findings[0].where["reference"] == "qwen2"


@pytest.mark.parametrize("name", ["Llama", "LLAMA", "Qwen2"])
def test_the_case_of_the_architecture_is_found_in_gguf(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, name)
    writer.add_tensor("token_embd.weight", np.ones((3, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert ("fail", "architecture-case") in codes(one(path, GATE))


def test_a_class_of_another_architecture_is_found(tmp_path: Path) -> None:
    folder = reconfigured(
        tiny.write(tmp_path, "safetensors", tiny.config("qwen2")),
        lambda config: config.update(architectures=["LlamaForCausalLM"]),
    )
    assert codes(one(folder, GATE)) == {("fail", "architecture-class")}


def test_a_class_of_another_architecture_is_found_in_apr(tmp_path: Path) -> None:
    path = changed(
        tmp_path, "apr", lambda patient: patient.metadata.update(hf_architecture="LlamaForCausalLM"), "qwen2"
    )  # type: ignore[attr-defined]
    assert codes(one(path, GATE)) == {("fail", "architecture-class")}


@pytest.mark.parametrize("published", _families.PUBLISHED, ids=lambda p: f"{p.name}")
def test_every_published_model_is_within_its_own_family(published: _families.Published) -> None:
    fields = {f.name for f in dataclasses.fields(published)} & {f.name for f in dataclasses.fields(tiny.config())}
    values = {name: getattr(published, name) for name in fields if getattr(published, name) is not None}
    scaling = None
    if published.rope_scaling is not None:
        from apr.models._config import RopeScaling

        scaling = RopeScaling(published.rope_scaling[0], published.rope_scaling[1] or 1.0)  # type: ignore[arg-type]
    for context in published.contexts:
        config = dataclasses.replace(
            tiny.config(published.model_type),
            **(values | {"max_position_embeddings": context, "rope_scaling": scaling}),
        )
        assert list(metadata_plausible._beyond_family(config)) == []


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_healthy_model_of_no_table_passes(model_type: str, file_format: str, tmp_path: Path) -> None:
    result = one(tiny.write(tmp_path, file_format, tiny.config(model_type)), GATE)
    assert (result.status, result.code) == ("pass", "plausible")


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", "qwen2.5-coder:0.5b"])
def test_real_models_are_as_published(alias: str, real_model: Callable[[str], Path]) -> None:
    assert one(real_model(alias), GATE).code == "as-published"


@pytest.mark.real
@pytest.mark.parametrize(
    ("alias", "key", "value"),
    [("qwen2.5-coder:0.5b", "rope_theta", 10000.0), ("smollm2", "rms_norm_eps", 1e-6), ("smollm2", "rope_theta", 5e5)],
)
def test_a_value_that_was_not_published_is_found_in_a_real_model(
    alias: str, key: str, value: float, real_model: Callable[[str], Path]
) -> None:
    with Judged(real_model(alias)) as subject:
        subject.model = subject.model.with_config(dataclasses.replace(subject.checkpoint.config, **{key: value}))  # type: ignore[arg-type]
        found: list[Finding] = list(metadata_plausible.check.check(subject))
    assert ("fail", "value") in {(f.status, f.code) for f in found} and found[0].where["key"] == key


def test_the_document_of_a_healthy_folder_says_its_class(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "safetensors", tiny.config("qwen2"))
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["Qwen2ForCausalLM"]
