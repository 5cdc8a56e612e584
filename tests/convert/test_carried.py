"""What comes along beside shape, tokenizer and weights, into each format and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.convert import convert
from apr.formats import gguf, open_model
from apr.formats._base import Outgoing

CARD = {
    "general.name": "Tiny",
    "general.license": "apache-2.0",
    "general.author": "A. Uthor",
    "general.organization": "Org",
    "general.size_label": "135K",
    "general.languages": ["en", "de"],
    "general.sampling.temp": 0.5,
    "llama.expert_count": 7,
    "tokenizer.ggml.mask_token_id": 3,
}


@pytest.fixture
def rich_gguf(tmp_path: Path) -> Path:
    """A GGUF file with keys that other formats have no place for."""
    with open_model(tiny.write(tmp_path / "plain", "gguf")) as file:
        specs = tuple((i.name, i.codec, i.shape) for i in file.tensors.values())
        gguf.write(tmp_path / "rich.gguf", Outgoing(dict(file.typed_metadata) | CARD, specs, file.raw))
    return tmp_path / "rich.gguf"


@pytest.mark.parametrize("way", ["m.apr", "m"])
def test_gguf_keys_go_through_other_formats_and_come_back(rich_gguf: Path, target: Path, way: str) -> None:
    convert(rich_gguf, target / way)
    report = convert(target / way, target / "back.gguf")
    with open_model(target / "back.gguf") as file:
        assert {key: _plain(file.metadata.get(key)) for key in CARD} == CARD
    assert not any("left out" in note for note in report.notes if "lm_head" not in note and "do_sample" not in note)


def test_apr_has_typed_keys_and_the_rest_in_source_metadata(rich_gguf: Path, target: Path) -> None:
    convert(rich_gguf, target / "m.apr")
    with open_model(target / "m.apr") as file:
        assert (file.metadata["name"], file.metadata["license"], file.metadata["author"]) == (
            "Tiny",
            "apache-2.0",
            "A. Uthor",
        )
        assert file.metadata["generation_config"] == {"temperature": 0.5}
        rest = file.metadata["source_metadata"]
    assert rest["general.languages"] == ["en", "de"] and rest["llama.expert_count"] == 7
    assert "general.name" not in rest and "tokenizer.ggml.tokens" not in rest


def test_settings_without_a_key_in_gguf_are_told(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "safetensors")
    settings = {"temperature": 0.7, "top_k": 20, "eos_token_id": [271, 273], "num_beams": 4}
    (source / "generation_config.json").write_text(json.dumps(settings))
    config = json.loads((source / "config.json").read_text()) | {"mystery": 1}
    (source / "config.json").write_text(json.dumps(config))
    report = convert(source, target / "m.gguf")
    assert any("num_beams" in note for note in report.notes) and any("mystery" in note for note in report.notes)
    with open_model(target / "m.gguf") as file:
        assert file.metadata["general.sampling.top_k"] == 20
        assert file.value_types["general.sampling.top_k"] == "int32"
        assert file.metadata["general.sampling.temp"] == pytest.approx(0.7)


def test_apr_keys_without_a_place_are_told(tmp_path: Path, target: Path) -> None:
    from apr.formats import apr

    with open_model(tiny.write(tmp_path / "plain", "apr")) as file:
        specs = tuple((i.name, i.codec, i.shape) for i in file.tensors.values())
        metadata = dict(file.metadata) | {"my_key": [1], "data_source": "somewhere"}
        apr.write(tmp_path / "m.apr", Outgoing(metadata, specs, file.raw))
    report = convert(tmp_path / "m.apr", target / "m.gguf")
    assert "keys of .apr that the target has no place for were left out: my_key, data_source" in report.notes


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
