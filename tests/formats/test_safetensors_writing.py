"""safetensors, written: whole or not at all, as promised, and equal in the safetensors package and in transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors as oracle
import safetensors.numpy as oracle_numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apr.errors import (
    BadMetadata,
    BadString,
    DuplicateName,
    InternalError,
    LimitExceeded,
    ShapeMismatch,
    UnsupportedError,
    UsageError,
)
from apr.formats import safetensors
from apr.formats._base import Outgoing


def contents(model: safetensors.SafetensorsFile) -> dict[str, tuple[str, list[int], bytes]]:
    return {n: (i.codec.upper(), list(i.shape), bytes(model.raw(n))) for n, i in model.tensors.items()}


def oracle_contents(content: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    return {n: (entry["dtype"], entry["shape"], bytes(entry["data"])) for n, entry in oracle.deserialize(content)}


ARRAYS = {
    "odd": np.arange(3, dtype=np.uint8),
    "layer.weight": np.arange(10, dtype=np.float32).reshape(2, 5),
    "half": np.arange(4, dtype=np.float16),
    "scalar": np.array(7, dtype=np.int64),
    "none": np.zeros((0, 4), dtype=np.float64),
}
CODECS = {"uint8": "u8", "float32": "f32", "float16": "f16", "int64": "i64", "float64": "f64"}


def outgoing(
    arrays: Mapping[str, np.ndarray] = ARRAYS,
    *,
    data: Callable[[str], np.ndarray] | None = None,
    documents: Mapping[str, Any] | None = None,
) -> Outgoing:
    specs = tuple((name, CODECS[str(array.dtype)], array.shape) for name, array in arrays.items())
    encoded = data or (lambda name: np.frombuffer(arrays[name].tobytes(), np.uint8))
    return Outgoing({"format": "pt", "é": "ü"}, specs, encoded, documents or {})


def failing(name: str) -> np.ndarray:
    if name == "half":
        raise RuntimeError("planted")
    return np.frombuffer(ARRAYS[name].tobytes(), np.uint8)


def test_a_written_file_loads_equal_in_the_safetensors_package(tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    safetensors.write(path, outgoing())
    loaded = oracle_numpy.load_file(path)
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape
        np.testing.assert_array_equal(loaded[name], array)
    with oracle.safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"format": "pt", "é": "ü"}


def test_a_written_file_is_laid_out_as_promised(tmp_path: Path) -> None:
    safetensors.write(tmp_path / "out.safetensors", outgoing())
    content = (tmp_path / "out.safetensors").read_bytes()
    n_header = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n_header])
    assert n_header % 8 == 0
    assert list(header) == ["__metadata__", *ARRAYS]
    assert content[8 + n_header :] == b"".join(array.tobytes() for array in ARRAYS.values())


def test_data_is_asked_for_once_and_in_order(tmp_path: Path) -> None:
    asked: list[str] = []
    safetensors.write(
        tmp_path / "m", outgoing(data=lambda n: (asked.append(n), np.frombuffer(ARRAYS[n].tobytes(), np.uint8))[1])
    )
    assert asked == list(ARRAYS)


def test_a_folder_is_made_with_documents_and_read_back(tmp_path: Path) -> None:
    documents = {"config.json": {"hidden_size": 8}, "tokenizer.json": '{"é": 1}', "chat_template.jinja": "{{ x }}\r\n"}
    safetensors.write(tmp_path / "out", outgoing(documents=documents))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*documents, "model.safetensors"])
    with safetensors.read(tmp_path / "out") as model:
        assert model.documents == documents
        assert list(model.tensors) == list(ARRAYS)
        np.testing.assert_array_equal(model.array("layer.weight"), ARRAYS["layer.weight"])


@pytest.mark.parametrize("target", ["out.safetensors", "out"])
def test_an_error_while_writing_leaves_nothing(tmp_path: Path, target: str) -> None:
    with pytest.raises(RuntimeError, match="planted"):
        safetensors.write(tmp_path / target, outgoing(data=failing, documents={"config.json": {}}))
    with pytest.raises(RuntimeError, match="planted"):
        safetensors.write_sharded(
            tmp_path / "shards", outgoing(data=failing, documents={"config.json": {}}), max_shard_bytes=8
        )
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_writing_leaves_the_old_model(tmp_path: Path) -> None:
    safetensors.write(tmp_path, outgoing(documents={"config.json": {"old": 1}}))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RuntimeError, match="planted"):
        safetensors.write(tmp_path, outgoing(data=failing, documents={"config.json": {"new": 1}}))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_documents_are_in_place_before_the_weights_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    appeared: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda self, target: (appeared.append(Path(target).name), replace(self, target))[1]
    )
    safetensors.write(tmp_path / "out", outgoing(documents={"config.json": {}, "tokenizer.json": "{}"}))
    safetensors.write_sharded(tmp_path / "s", outgoing(documents={"config.json": {}}), max_shard_bytes=10**6)
    assert appeared[:3] == ["config.json", "tokenizer.json", "model.safetensors"]
    assert appeared[3:] == ["model-00001-of-00001.safetensors", "config.json", "model.safetensors.index.json"]


def test_shards_are_cut_at_the_limit_and_read_back_by_us_and_by_transformers_index_rules(tmp_path: Path) -> None:
    arrays = {f"t{i}": np.full(size, i, np.float32) for i, size in enumerate((2, 2, 1, 9, 1, 0))}
    safetensors.write_sharded(tmp_path / "out", outgoing(arrays), max_shard_bytes=16)
    index = json.loads((tmp_path / "out" / safetensors.INDEX_NAME).read_text())
    assert index["metadata"]["total_size"] == 60
    assert [index["weight_map"][f"t{i}"][8:11] for i in range(6)] == ["001", "001", "002", "003", "004", "004"]
    for name, shard in index["weight_map"].items():
        np.testing.assert_array_equal(oracle_numpy.load_file(tmp_path / "out" / shard)[name], arrays[name])
    with safetensors.read(tmp_path / "out") as model:
        assert model.warnings == [] and model.metadata["format"] == "pt"
        for name, array in arrays.items():
            np.testing.assert_array_equal(model.array(name), array)


def test_another_model_in_the_folder_is_not_touched(tmp_path: Path) -> None:
    safetensors.write(tmp_path / "a.safetensors", outgoing(documents={"config.json": {"a": 1}}))
    safetensors.write(tmp_path / "b.safetensors", outgoing())
    with pytest.raises(UsageError, match=r"a\.safetensors with a config\.json"):
        safetensors.write(tmp_path / "c.safetensors", outgoing(documents={"config.json": {"c": 1}}))
    with pytest.raises(UsageError, match="already holds"):
        safetensors.write_sharded(tmp_path, outgoing(), max_shard_bytes=100)
    (tmp_path / safetensors.INDEX_NAME).write_text("{}")
    with pytest.raises(UsageError, match="index"):
        safetensors.write(tmp_path, outgoing())


def test_a_folder_is_not_made_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "no" / "out", tmp_path / "no" / "out.safetensors", tmp_path / "file"):
        with pytest.raises(UsageError):
            safetensors.write(path, outgoing())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def written(
    folder: Path, *specs: tuple[str, str, tuple[int, ...]], metadata: Mapping[str, Any] | None = None, n: int = 4
) -> None:
    model = Outgoing(metadata or {}, specs, lambda name: np.zeros(n, np.uint8))
    safetensors.write(folder / "out.safetensors", model)


def test_what_no_reader_would_accept_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="q4_k"):
        written(tmp_path, ("a", "q4_k", (256,)))
    with pytest.raises(DuplicateName):
        written(tmp_path, ("a", "f32", (1,)), ("a", "f32", (1,)))
    with pytest.raises(DuplicateName):
        written(tmp_path, ("__metadata__", "f32", (1,)), metadata={"a": "b"})
    with pytest.raises(BadMetadata):
        written(tmp_path, ("__metadata__", "f32", (1,)))
    with pytest.raises(BadMetadata):
        written(tmp_path, ("a", "f32", (1,)), metadata={"a": 1})
    with pytest.raises(BadString):
        written(tmp_path, ("", "f32", (1,)))
    with pytest.raises(LimitExceeded):
        written(tmp_path, ("a", "f32", (1,) * 9))
    with pytest.raises(ShapeMismatch):
        written(tmp_path, ("a", "f4", (1,)))
    with pytest.raises(UnsupportedError):
        safetensors.write(tmp_path / "out", outgoing(documents={"../evil.json": {}}))
    assert list(tmp_path.iterdir()) == []


def test_data_of_the_wrong_size_is_a_bug_of_ours_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="3 uint8, expected 4"):
        written(tmp_path, ("a", "f32", (1,)), n=3)
    with pytest.raises(InternalError, match="float32"):
        safetensors.write(
            tmp_path / "x.safetensors", outgoing({"a": ARRAYS["half"]}, data=lambda _: np.zeros(8, np.float32))
        )
    assert list(tmp_path.iterdir()) == []


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda n: n != "__metadata__"
)
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
whole = sorted(dtype.lower() for dtype, bits in safetensors.BITS.items() if bits % 8 == 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])), max_size=3
    ),
    st.dictionaries(names, st.tuples(st.sampled_from(whole), shapes), max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_what_is_written_is_read_back_by_us_and_by_them(
    tmp_path: Path, metadata: dict[str, str], tensors: dict[str, tuple[str, tuple[int, ...]]], seed: int
) -> None:
    source = np.random.default_rng(seed)
    sizes = {n: int(np.prod(shape)) * safetensors.BITS[codec.upper()] // 8 for n, (codec, shape) in tensors.items()}
    data = {n: source.integers(0, 256, size, dtype=np.uint8) for n, size in sizes.items()}
    path = tmp_path / "out.safetensors"
    safetensors.write(path, Outgoing(metadata, tuple((n, *spec) for n, spec in tensors.items()), data.__getitem__))
    expected = {n: (codec.upper(), list(shape), data[n].tobytes()) for n, (codec, shape) in tensors.items()}
    with safetensors.read(path) as model:
        assert contents(model) == expected
        assert model.metadata == metadata
    assert oracle_contents(path.read_bytes()) == expected


# ---- what transformers writes and reads


@pytest.mark.parity
@pytest.mark.parametrize("max_shard_size", ["10GB", "20KB"])
def test_a_folder_of_transformers_is_read_and_our_copy_loads_in_transformers(
    tmp_path: Path, max_shard_size: str
) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 64}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
    original = transformers.LlamaForCausalLM(config)
    original.save_pretrained(tmp_path / "theirs", max_shard_size=max_shard_size)
    with safetensors.read(tmp_path / "theirs") as model:
        assert model.warnings == []
        assert model.documents["config.json"]["hidden_size"] == 32
        state = original.state_dict()
        assert model.tensors.keys() == state.keys()
        for name, tensor in state.items():
            np.testing.assert_array_equal(model.array(name), tensor.numpy())
        specs = tuple((info.name, info.codec, info.shape) for info in model.tensors.values())
        copy = Outgoing(model.metadata, specs, model.raw, model.documents)
        safetensors.write(tmp_path / "one", copy)
        safetensors.write_sharded(tmp_path / "many", copy, max_shard_bytes=20_000)
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    for folder in ("one", "many"):
        loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path / folder).state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
