"""The metadata of GGUF files made from other formats, as gguf-py reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.convert import _to_gguf, convert
from apr.convert._items import Item
from apr.formats import open_model
from apr.models._config import RopeScaling


def item(codec: str) -> Item:
    return Item("w", "w", "w", codec, codec, (1, 256), "kept")


@pytest.mark.parity
def test_file_types_are_llama_cpps() -> None:
    import gguf

    for codec, number in _to_gguf.FILE_TYPES.items():
        name = gguf.LlamaFileType(number).name
        assert name.removeprefix("MOSTLY_").removeprefix("ALL_").removesuffix("_M") == codec.upper()


@pytest.mark.parametrize(
    ("codecs", "number"),
    [
        (["f32"], 0), (["f16"], 1), (["bf16"], 32), (["q8_0"], 7), (["q4_k"], 14), (["q4_k", "q4_k", "q6_k"], 15),
        (["q6_k"], 18), (["q5_0", "q5_0", "q8_0", "q4_k"], 8), (["f64"], 1024), ([], 0),
    ],
)  # fmt: skip
def test_the_file_type_is_that_of_most_values(codecs: list[str], number: int) -> None:
    assert _to_gguf.file_type([item(codec) for codec in codecs]) == number


@pytest.mark.parity
@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_gguf_py_reads_the_same_keys_that_its_writer_wrote(tmp_path: Path, model_type: str) -> None:
    config = tiny.config(model_type)
    reference = tiny.write(tmp_path / "reference", "gguf", config)
    convert(tiny.write(tmp_path / "source", "apr", config), tmp_path / "m.gguf")
    expected, found = contents(reference), contents(tmp_path / "m.gguf")
    assert {key: found[key] for key in expected} == expected
    assert set(found) - set(expected) <= {"general.type", "general.name", "general.file_type", "general.license"}


def contents(path: Path) -> dict[str, Any]:
    """Every key with its value, by gguf-py."""
    import gguf

    reader = gguf.GGUFReader(path)
    return {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}


def test_token_types_are_int32_as_converters_write_them(tmp_path: Path) -> None:
    convert(tiny.write(tmp_path / "source", "apr"), tmp_path / "m.gguf")
    with open_model(tmp_path / "m.gguf") as file:
        assert file.value_types["tokenizer.ggml.token_type"] == "array[int32]"
        assert file.value_types["llama.rope.freq_base"] == "float32"


def test_llama3_scaling_is_a_tensor(tmp_path: Path) -> None:
    scaling = RopeScaling("llama3", 8.0, 8192)
    convert(
        tiny.write(tmp_path / "source", "safetensors", tiny.config(rope_scaling=scaling, rope_theta=500000.0)),
        tmp_path / "m.gguf",
    )
    with open_model(tmp_path / "m.gguf") as file:
        factors = file.array("rope_freqs.weight")
    # llama.cpp's converter, LlamaModel.generate_extra_tensors
    expected = []
    for frequency in 1.0 / 500000.0 ** (np.arange(0, 16, 2) / 16):
        wavelength = 2 * np.pi / frequency
        if wavelength < 8192 / 4.0:
            expected.append(1.0)
        elif wavelength > 8192 / 1.0:
            expected.append(8.0)
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            expected.append(1 / ((1 - smooth) / 8.0 + smooth))
    np.testing.assert_allclose(factors, expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "is_kept"), [("Phi-3-mini", False), ("phi3", False), ("Phi-4-mini", True)])
def test_a_name_that_upsets_llama_cpp_is_left_out(tmp_path: Path, name: str, is_kept: bool) -> None:
    source = tiny.write(tmp_path / name, "safetensors", tiny.config("phi3"))
    report = convert(source, tmp_path / "m.gguf")
    with open_model(tmp_path / "m.gguf") as file:
        assert file.metadata.get("general.name") == (name if is_kept else None)
    assert any("llama.cpp" in note for note in report.notes) is not is_kept


def test_a_local_rotary_base_of_its_own_is_written(tmp_path: Path) -> None:
    config = tiny.config("gemma3_text", rope_local_base_freq=20000.0)
    convert(tiny.write(tmp_path / "source", "safetensors", config), tmp_path / "m.gguf")
    with open_model(tmp_path / "m.gguf") as file:
        assert file.metadata["gemma3.rope.freq_base_swa"] == 20000.0
