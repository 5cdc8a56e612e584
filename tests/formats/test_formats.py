"""`open_model` finds a format by its bytes, whatever the name says, and refuses what is no model without reading on."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest

from apr import _folder
from apr.errors import BadMagic, HostileFile, UsageError
from apr.formats import format_of, open_model, safetensors

HEADER = json.dumps({"a": {"dtype": "I8", "shape": [3], "data_offsets": [0, 3]}}).encode()
SAFETENSORS = len(HEADER).to_bytes(8, "little") + HEADER + b"abc"
NAMES = ["model.gguf", "model.safetensors", "model.apr", "model.bin", "model"]


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 100)
    return file.getvalue()


FOREIGN = {
    "pickle": pickle.dumps({"weight": [1.0] * 10}, protocol=2),
    "zip": zipped(),
    "gzip": gzip.compress(b"GGUF" * 100, mtime=0),
    "elf": b"\x7fELF\x02\x01\x01" + bytes(57),
    "zeros": bytes(64),
    "text": b"version https://git-lfs.github.com/spec/v1\n",
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "empty": b"",
    "one byte": b"G",
    "a length and no header": (100).to_bytes(8, "little"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_model_is_refused_under_any_name(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FOREIGN[kind])
    with pytest.raises(BadMagic) as caught:
        open_model(path)
    assert caught.value.offset == 0
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", NAMES)
def test_the_name_does_not_matter(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(SAFETENSORS)
    with open_model(path) as model:
        assert model.format == "safetensors"
        assert bytes(model.raw("a")) == b"abc"


def test_a_path_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(SAFETENSORS)
    with open_model(str(tmp_path / "m.safetensors")) as model:
        assert list(model.tensors) == ["a"]


def test_a_folder_and_an_index_are_opened(tmp_path: Path) -> None:
    (tmp_path / "one.safetensors").write_bytes(SAFETENSORS)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{\n  "weight_map": {"a": "one.safetensors"}}')
    for path in (tmp_path, index):
        with open_model(path) as model:
            assert list(model.tensors) == ["a"]


def test_a_folder_without_a_model_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no"):
        open_model(tmp_path)


def test_nothing_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        open_model(tmp_path / "missing.gguf")
    (tmp_path / "link.gguf").symlink_to(tmp_path / "missing.gguf")
    with pytest.raises(UsageError, match="no such file"):
        open_model(tmp_path / "link.gguf")


@pytest.mark.parametrize("name", ["model.gguf", "model.safetensors"])
def test_a_pipe_and_a_device_are_refused_unread(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(HostileFile):
        open_model(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(HostileFile):
        open_model(path)


def test_a_device_as_the_weights_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to("/dev/zero")
    with pytest.raises(HostileFile):
        open_model(tmp_path)


def test_a_link_to_a_model_is_followed(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(SAFETENSORS)
    (tmp_path / "model.gguf").symlink_to(tmp_path / "blob")
    with open_model(tmp_path / "model.gguf") as model:
        assert list(model.tensors) == ["a"]


@pytest.mark.parametrize("count", [0x7B, 0x22, 0])
def test_no_two_formats_claim_one_head(count: int) -> None:
    # 0x7b is the opening brace that a safetensors header has at this place
    heads = [
        b"GGUF" + (3).to_bytes(4, "little") + count.to_bytes(8, "little"),
        b"APR\0\2\0\0\0" + count.to_bytes(8, "little"),
        b"PK\3\4\x14\0\0\0" + count.to_bytes(8, "little"),
    ]
    assert not any(safetensors.is_mine(head) for head in heads)
    modules = [_folder.load("apr.formats", name) for name in _folder.names("apr.formats")]
    for head in (*heads, SAFETENSORS[:16]):
        assert sum(module.is_mine(head) for module in modules) <= 1


def test_the_format_to_write_is_told_by_the_ending() -> None:
    assert format_of(Path("a/b.SafeTensors")) == "safetensors"
    for name in ("model", "model.bin", "model.json"):
        with pytest.raises(UsageError, match=r"\.safetensors"):
            format_of(Path(name))
