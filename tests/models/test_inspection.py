"""Facts about model files, healthy and strange."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import tiny
from apr.formats import open_model
from apr.models._checkpoint import expected_tensors
from apr.models._inspection import Inspection, inspect, list_tensors, statistics_of


def inspected(path: Path, *, metadata: bool = False) -> Inspection:
    with open_model(path) as file:
        return inspect(file, metadata=metadata)


def foreign(path: Path, *, name: str = "x.weight", keys: dict[str, str] | None = None) -> Path:
    """A GGUF file of an architecture that we do not run; written by gguf-py."""
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_uint32("mamba.block_count", 3)
    for key, value in (keys or {}).items():
        writer.add_string(key, value)
    writer.add_tensor(name, np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_healthy_model_is_described_without_a_warning(model_type: str, file_format: str, tmp_path: Path) -> None:
    config = tiny.config(model_type)
    found = inspected(tiny.write(tmp_path, file_format, config))
    assert found.warnings == ()
    assert found.format == file_format and found.config is not None
    assert found.config.num_hidden_layers == 2 and found.config.vocab_size == tiny.VOCAB_SIZE
    own = sum(int(np.prod(shape)) for shape in expected_tensors(config).values())
    copy = tiny.VOCAB_SIZE * 64 if config.tie_word_embeddings and file_format == "apr" else 0
    assert found.n_parameters == own + copy
    assert found.tokenizer is not None and found.chat_template == f"{len(tiny.CHATML)} characters"
    assert [share.codec for share in found.dtypes] == ["f32"] and found.metadata is None


def test_an_unsupported_architecture_is_a_warning_and_not_an_error(tmp_path: Path) -> None:
    found = inspected(foreign(tmp_path / "m.gguf"), metadata=True)
    assert found.architecture == "mamba" and found.config is None and found.n_parameters == 12
    assert [code for code, _ in found.warnings] == ["unsupported-error"]
    assert "'mamba'" in found.warnings[0][1]
    assert found.metadata is not None and found.metadata["mamba.block_count"] == 3


def test_a_damaged_configuration_is_a_warning(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "safetensors")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"hidden_size": 64', '"hidden_size": -64'))
    found = inspected(folder)
    assert found.config is None and [code for code, _ in found.warnings] == ["bad-metadata"]
    (folder / "config.json").unlink()
    assert inspected(folder).config is None


def test_defaults_and_unread_keys_are_warnings(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "safetensors")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"rms_norm_eps": 1e-06', '"clip_qkv": 8.0'))
    assert {(code, message.split()[0]) for code, message in inspected(folder).warnings} == {
        ("default", "rms_norm_eps"),
        ("unread", "clip_qkv"),
    }


def test_a_suspicious_template_is_a_warning(tmp_path: Path) -> None:
    found = inspected(foreign(tmp_path / "m.gguf", keys={"tokenizer.chat_template": "{{ ''.__class__.__mro__ }}"}))
    assert "suspicious-template" in [code for code, _ in found.warnings]
    assert str(found.chat_template).endswith(" characters, suspicious")


def test_control_characters_stay_data(tmp_path: Path) -> None:
    name, key = "bad\x1b[31mname\n", "general.name"
    path = foreign(tmp_path / "m.gguf", name=name, keys={key: "red\x1b[31m"})
    assert inspected(path, metadata=True).name == "red\x1b[31m"
    with open_model(path) as file:
        assert [row.name for row in list_tensors(file).tensors] == [name]


def test_long_metadata_is_cut_with_its_length(tmp_path: Path) -> None:
    found = inspected(foreign(tmp_path / "m.gguf", keys={"general.description": "x" * 5000}), metadata=True)
    assert found.metadata is not None and found.metadata["general.description"] == "x" * 200 + "… (5000 characters)"
    tokens = inspected(tiny.write(tmp_path / "t", "gguf"), metadata=True).metadata
    assert tokens is not None and tokens["tokenizer.ggml.tokens"] == f"[{tiny.VOCAB_SIZE} values]"


@pytest.mark.parametrize("codec", ["f16", "q8_0"])
def test_shares_of_encodings_are_sorted_by_bytes(codec: str, tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf", codec=codec)
    shares = inspected(path).dtypes
    assert [share.codec for share in shares] == [codec, "f32"]
    with open_model(path) as file:
        assert sum(share.n_bytes for share in shares) == sum(info.n_bytes for info in file.tensors.values())
        assert sum(share.n_tensors for share in shares) == len(file.tensors)


def test_tensors_are_filtered_and_limited(tmp_path: Path) -> None:
    with open_model(tiny.write(tmp_path, "apr")) as file:
        everything = list_tensors(file)
        assert [row.name for row in everything.tensors] == list(file.tensors)
        chosen = list_tensors(file, containing="k_proj")
        assert [row.name for row in chosen.tensors] == [f"model.layers.{i}.self_attn.k_proj.weight" for i in (0, 1)]
        assert chosen.n_tensors == len(file.tensors)
        assert len(list_tensors(file, limit=3).tensors) == 3
        assert len(list_tensors(file, containing="k_proj", limit=1).tensors) == 1
        assert list_tensors(file, containing="nothing").tensors == ()
        assert all(row.statistics is None for row in everything.tensors)


def test_statistics_are_those_of_the_decoded_values(tmp_path: Path) -> None:
    config = tiny.config()
    weights = tiny.tensors(config)
    with open_model(tiny.write(tmp_path, "safetensors", config, weights)) as file:
        for row in list_tensors(file, statistics=True).tensors:
            exact = weights[row.name].astype(np.float64)
            assert row.statistics is not None
            assert row.statistics.mean == pytest.approx(exact.mean(), abs=1e-12)
            assert row.statistics.std == pytest.approx(exact.std(), abs=1e-12)
            assert (row.statistics.min, row.statistics.max) == (exact.min(), exact.max())


def statistics(*values: Any) -> tuple[float, ...]:
    s = statistics_of(np.array(values, dtype=np.float32))
    return s.mean, s.std, s.min, s.max, s.n_nan, s.n_inf


def test_nan_and_infinities_are_counted_and_left_out() -> None:
    nan, inf = float("nan"), float("inf")
    assert statistics(1, nan, 3, inf, -inf, nan, nan) == (2, 1, 1, 3, 3, 2)
    assert statistics(nan, inf) == (0, 0, 0, 0, 1, 1)
    assert statistics() == (0, 0, 0, 0, 0, 0)
    assert statistics(7) == (7, 0, 7, 7, 0, 0)


def test_large_values_do_not_overflow_the_sums() -> None:
    mean, std, *_ = statistics(3e38, 3e38, 3e38, -3e38)
    assert mean == pytest.approx(1.5e38) and std == pytest.approx(2.598e38, rel=1e-3)
