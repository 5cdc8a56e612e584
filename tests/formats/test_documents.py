"""Side files: limits, refusals, and that names of documents never become other paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from apr.errors import BadMetadata, BadString, DuplicateName, HostileFile, LimitExceeded, UnsupportedError
from apr.formats import _documents


def test_json_is_parsed_text_is_kept_and_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'{"hidden_size": 8}')
    (tmp_path / "tokenizer.json").write_bytes(b'{"a": 1}\r\n')
    (tmp_path / "chat_template.jinja").write_bytes("{{ é }}\n".encode())
    (tmp_path / "README.md").write_bytes(b"\xff")
    assert _documents.read_documents(tmp_path) == {
        "config.json": {"hidden_size": 8},
        "tokenizer.json": '{"a": 1}\r\n',
        "chat_template.jinja": "{{ é }}\n",
    }


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("config.json", b"[]", BadMetadata),
        ("config.json", b"", BadMetadata),
        ("generation_config.json", b'{"a":1,"a":1}', DuplicateName),
        ("tokenizer_config.json", b'{"a":' + b"[" * 99, LimitExceeded),
        ("config.json", b'{"a":"' + b"x" * (1 << 20) + b'"}', LimitExceeded),
        ("chat_template.jinja", b"x" * ((1 << 20) + 1), LimitExceeded),
        ("chat_template.jinja", b"ok\xff", BadString),
        ("tokenizer.json", b"\xc3", BadString),
    ],
)
def test_a_broken_side_file_is_named(tmp_path: Path, name: str, content: bytes, error: type[Exception]) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=name):
        _documents.read_documents(tmp_path)


def test_the_limit_itself_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"x" * (1 << 20))
    assert len(_documents.read_documents(tmp_path)["chat_template.jinja"]) == 1 << 20


def test_a_link_is_followed_to_a_file_and_nowhere_else(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b'{"a": 1}')
    link = tmp_path / "config.json"
    link.symlink_to(blob)
    assert _documents.read_documents(tmp_path) == {"config.json": {"a": 1}}
    for target in ("/dev/zero", "/nowhere/at/all", str(tmp_path)):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(HostileFile, match=r"config\.json"):
            _documents.read_documents(tmp_path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(HostileFile):
        _documents.read_documents(tmp_path)


@pytest.mark.parametrize("name", ["../config.json", "/etc/passwd", "model.safetensors", "", "config.json/x"])
def test_a_name_that_is_not_on_the_list_is_not_written(name: str) -> None:
    with pytest.raises(UnsupportedError):
        _documents.encode_documents({name: "text"})


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    documents = {"config.json": {"name": "é", "list": [1, 2.5, None]}, "chat_template.jinja": "a\r\nb\n"}
    _documents.write_encoded(tmp_path, _documents.encode_documents(documents))
    assert _documents.read_documents(tmp_path) == documents
    assert "é" in (tmp_path / "config.json").read_text(encoding="utf-8")
