"""The side files of folders made from other formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
from apr.convert import convert
from apr.formats import open_model


@pytest.mark.parametrize("origin", ["gguf", "apr"])
def test_a_folder_has_everything_that_readers_look_for(tmp_path: Path, origin: str) -> None:
    convert(tiny.write(tmp_path / "source", origin), tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        *("chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"),
        *("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"),
    ]
    settings = json.loads((tmp_path / "m" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == list(tiny.spec().stop_token_ids)
    assert (tmp_path / "m" / "chat_template.jinja").read_text() == tiny.CHATML
    assert json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())["chat_template"] == tiny.CHATML


@pytest.mark.parametrize(
    ("codec", "dequantize", "dtype"),
    [("f32", None, "float32"), ("f16", None, "float32"), ("q8_0", "f16", "float32"), ("q8_0", "f32", "float32")],
)
def test_torch_dtype_holds_every_tensor(tmp_path: Path, codec: str, dequantize: str | None, dtype: str) -> None:
    """Norms of GGUF are F32, and readers cast everything to this type."""
    convert(tiny.write(tmp_path / "source", "gguf", codec=codec), tmp_path / "m", dequantize=dequantize)
    assert json.loads((tmp_path / "m" / "config.json").read_text())["torch_dtype"] == dtype


def test_documents_of_a_folder_are_carried_over_as_they_are(tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "source", "safetensors")
    (source / "generation_config.json").write_text('{"eos_token_id": 271, "num_beams": 3}')
    (source / "README.md").write_text("hello")
    report = convert(source, tmp_path / "m")
    with open_model(source) as before, open_model(tmp_path / "m") as after:
        assert dict(after.documents) == dict(before.documents)
    assert report.notes == ("files that are not copied: README.md",)


def test_a_weights_file_has_its_side_files_beside_it(tmp_path: Path, target: Path) -> None:
    convert(tiny.write(tmp_path / "source", "gguf"), target / "tiny.safetensors")
    with open_model(target / "tiny.safetensors") as file:
        assert "config.json" in file.documents and len(file.tensors) == 21


def test_padding_of_the_vocabulary_stays_out_of_tokenizer_json_and_comes_back(tmp_path: Path) -> None:
    report = convert(tiny.write(tmp_path / "source", "gguf"), tmp_path / "m")
    document = json.loads((tmp_path / "m" / "tokenizer.json").read_text())
    assert not [token for token in document["model"]["vocab"] if token.startswith("[PAD")]
    assert any(sentence.startswith("the tokenizer has the same hash") for sentence in report.checked)
    convert(tmp_path / "m", tmp_path / "back.gguf")
    with open_model(tmp_path / "back.gguf") as file:
        assert file.metadata["tokenizer.ggml.tokens"].tolist() == list(tiny.spec().tokens)
        assert file.metadata["tokenizer.ggml.token_type"].tolist() == list(tiny.spec().token_types)
