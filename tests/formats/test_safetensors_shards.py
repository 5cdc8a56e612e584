"""safetensors in folders: which file counts, shards that must agree with their index, side files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apr.errors import (
    BadMetadata,
    BadString,
    DuplicateName,
    FormatError,
    HostileFile,
    LimitExceeded,
    TensorOutOfBounds,
    TruncatedFile,
    UsageError,
)
from apr.formats import safetensors
from fuzz.fuzz_safetensors import GOOD, file_of

FIRST_BYTE = {"dtype": "I8", "shape": [1], "data_offsets": [0, 1]}


def opened(folder: Path) -> safetensors.SafetensorsFile:
    """A folder with one good weights file, beside what is there."""
    (folder / "model.safetensors").write_bytes(file_of(GOOD, 19))
    return safetensors.read(folder)


def shards_in(folder: Path, index: object = None, **files: bytes) -> Path:
    """A folder with two shards, `x` holding `a` and `y` holding `b`, unless others are given."""
    files = {"x": file_of({"a": GOOD["a"]}, 16), "y": file_of({"b": FIRST_BYTE}, 1)} | files
    for name, content in files.items():
        (folder / f"{name}.safetensors").write_bytes(content)
    if index is None:
        index = {"metadata": {"total_size": 17}, "weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}
    (folder / safetensors.INDEX_NAME).write_text(json.dumps(index))
    return folder


def test_a_folder_prefers_the_index_then_the_plain_name_then_the_only_file(tmp_path: Path) -> None:
    (tmp_path / "other.safetensors").write_bytes(file_of(GOOD, 19))
    assert [path.name for path in safetensors.read(tmp_path).files] == ["other.safetensors"]
    (tmp_path / "model.safetensors").write_bytes(file_of(GOOD, 19))
    assert [path.name for path in safetensors.read(tmp_path).files] == ["model.safetensors"]
    shards_in(tmp_path)
    assert [path.name for path in safetensors.read(tmp_path).files] == ["x.safetensors", "y.safetensors"]


def test_an_index_of_another_name_is_opened_by_its_path_and_is_no_file_of_tensors(tmp_path: Path) -> None:
    index = (shards_in(tmp_path) / safetensors.INDEX_NAME).rename(tmp_path / "fp16.safetensors.index.json")
    with safetensors.read(index) as model:
        assert [path.name for path in model.files] == ["x.safetensors", "y.safetensors"]
        assert model.warnings == []


def test_several_files_without_an_index_are_a_usage_error(tmp_path: Path) -> None:
    shards_in(tmp_path)
    (tmp_path / safetensors.INDEX_NAME).unlink()
    with pytest.raises(UsageError, match="2 weights files"):
        safetensors.read(tmp_path)


def test_one_shard_alone_is_opened_with_a_warning(tmp_path: Path) -> None:
    with safetensors.read(shards_in(tmp_path) / "x.safetensors") as model:
        assert list(model.tensors) == ["a"]
        assert [warning.code for warning in model.warnings] == ["one-shard"]


NOT_PLAIN = ["", "..", ".", "../x.safetensors", "/etc/passwd", "d/x.safetensors", "d\\x.safetensors", "C:x.safetensors"]


@pytest.mark.parametrize("name", [*NOT_PLAIN, "x\0", "n" * 256, "x.safetensors/", 7, None, ["x.safetensors"], {}])
def test_a_shard_is_the_plain_name_of_a_file(tmp_path: Path, name: object) -> None:
    (tmp_path.parent / "x.safetensors").write_bytes(file_of({"a": GOOD["a"]}, 16))
    with pytest.raises(BadMetadata, match="plain name"):
        safetensors.read(shards_in(tmp_path, {"weight_map": {"a": name}}))


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": []}, {"metadata": {}}, {"weight_map": None}])
def test_an_index_has_a_weight_map(tmp_path: Path, index: object) -> None:
    with pytest.raises(BadMetadata, match="weight_map"):
        safetensors.read(shards_in(tmp_path, index))


@pytest.mark.parametrize("content", [b"[]", b"", b"GGUF", b"\xff", file_of(GOOD, 19)])
def test_an_index_is_a_json_object(tmp_path: Path, content: bytes) -> None:
    (shards_in(tmp_path) / safetensors.INDEX_NAME).write_bytes(content)
    with pytest.raises(FormatError, match=r"index\.json") as caught:
        safetensors.read(tmp_path)
    assert type(caught.value) in (BadMetadata, BadString)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (shards_in(tmp_path) / "y.safetensors").unlink()
    with pytest.raises(TruncatedFile, match=r"y\.safetensors"):
        safetensors.read(tmp_path)


def test_a_tensor_that_the_index_does_not_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadMetadata, match=r"'b' should be 'not in the index' and is 'y\.safetensors'"):
        shards_in(tmp_path, {"weight_map": {"a": "x.safetensors", "c": "y.safetensors"}})
        safetensors.read(tmp_path)


def test_a_tensor_that_no_shard_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadMetadata, match=r"'c' should be 'x\.safetensors' and is 'in none of the shards'"):
        shards_in(tmp_path, {"weight_map": {"a": "x.safetensors", "b": "y.safetensors", "c": "x.safetensors"}})
        safetensors.read(tmp_path)


def test_a_tensor_in_another_shard_than_the_index_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadMetadata, match="different models"):
        shards_in(tmp_path, {"weight_map": {"a": "y.safetensors", "b": "x.safetensors"}})
        safetensors.read(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DuplicateName, match=r"'a' is in x\.safetensors"):
        safetensors.read(shards_in(tmp_path, y=file_of({"a": GOOD["a"]}, 16)))


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(TensorOutOfBounds, match=r"x\.safetensors"):
        safetensors.read(shards_in(tmp_path, x=file_of({"a": GOOD["a"]}, 15)))


def test_a_shard_may_be_a_link_to_a_file_and_to_nothing_else(tmp_path: Path) -> None:
    shard = shards_in(tmp_path) / "x.safetensors"
    shard.rename(tmp_path / "blob")
    shard.symlink_to(tmp_path / "blob")
    with safetensors.read(tmp_path) as model:
        assert set(model.tensors) == {"a", "b"}
    shard.unlink()
    shard.symlink_to("/dev/zero")
    with pytest.raises(HostileFile, match=r"x\.safetensors"):
        safetensors.read(tmp_path)


@pytest.mark.parametrize("total_size", [16, 18, 17.5, "17", None])
def test_a_wrong_total_size_is_a_warning(tmp_path: Path, total_size: object) -> None:
    index = {"metadata": {"total_size": total_size}, "weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}
    with safetensors.read(shards_in(tmp_path, index)) as model:
        assert [warning.code for warning in model.warnings] == ["total-size-differs"]


def test_more_shards_than_can_be_opened_are_refused_before_one_is(tmp_path: Path) -> None:
    with pytest.raises(LimitExceeded, match="1001 shards"):
        safetensors.read(shards_in(tmp_path, {"weight_map": {f"t{i}": f"s{i}" for i in range(1001)}}))


def test_side_files_are_read_and_a_lonely_sentencepiece_model_is_reported(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a")
    with opened(tmp_path) as model:
        assert model.documents == {"config.json": {"model_type": "llama"}}
        assert [warning.code for warning in model.warnings] == ["tokenizer-model-only"]
    (tmp_path / "tokenizer.json").write_text("{}")
    with safetensors.read(tmp_path) as model:
        assert model.documents["tokenizer.json"] == "{}"
        assert model.warnings == []


def test_a_broken_side_file_refuses_the_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadMetadata, match=r"config\.json"):
        opened(tmp_path)
