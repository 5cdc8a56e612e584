"""Where a conversion may write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import tiny
from apr.convert import _target, convert
from apr.errors import UsageError
from apr.formats import open_model
from convert.conversion_runs import leftovers


@pytest.mark.parametrize(
    ("path", "file_format", "is_folder"),
    [
        ("m.gguf", "gguf", False),
        ("m.APR", "apr", False),
        ("m.safetensors", "safetensors", False),
        ("folder", "safetensors", True),
        ("Qwen2.5", "safetensors", True),
        ("SmolLM2-1.7B", "safetensors", True),
        ("folder.bin/", "safetensors", True),
    ],
)
def test_the_ending_names_the_format(path: str, file_format: str, is_folder: bool) -> None:
    found = _target.parse(path)
    assert (found.format, found.is_folder) == (file_format, is_folder)


def test_an_unknown_ending_is_refused(tmp_path: Path, target: Path) -> None:
    with pytest.raises(UsageError, match=r"\.bin.*use one of: \.apr, \.gguf, \.safetensors"):
        convert(tiny.write(tmp_path / "source", "gguf"), target / "m.bin")
    assert leftovers(target) == []


@pytest.mark.parametrize("to", ["m.gguf", "m.apr", "m.safetensors", "m"])
def test_what_exists_is_refused_and_stays(tmp_path: Path, target: Path, to: str) -> None:
    source = tiny.write(tmp_path / "source", "gguf")
    convert(source, target / to)
    before = {p: p.stat().st_mtime_ns for p in target.rglob("*")}
    with pytest.raises(UsageError, match="exists"):
        convert(source, target / to)
    assert {p: p.stat().st_mtime_ns for p in target.rglob("*")} == before


@pytest.mark.parametrize("to", ["m.gguf", "m.apr", "m.safetensors", "m"])
def test_what_exists_is_replaced_when_told(tmp_path: Path, target: Path, to: str) -> None:
    convert(tiny.write(tmp_path / "old", "gguf", tiny.config("qwen2")), target / to)
    convert(tiny.write(tmp_path / "new", "gguf", tiny.config("qwen3")), target / to, overwrite="replace")
    with open_model(target / to) as file:
        assert any("q_norm" in name for name in file.tensors)
    assert not [name for name in leftovers(target) if name.startswith(".")]


def test_a_folder_with_anything_but_a_model_is_never_replaced(tmp_path: Path, target: Path) -> None:
    (target / "m").mkdir()
    (target / "m" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        convert(tiny.write(tmp_path / "source", "gguf"), target / "m", overwrite="replace")
    assert (target / "m" / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_filled(tmp_path: Path, target: Path) -> None:
    (target / "m").mkdir()
    convert(tiny.write(tmp_path / "source", "gguf"), target / "m")
    assert "config.json" in leftovers(target / "m")


@pytest.mark.parametrize("overwrite", ["refuse", "replace"])
@pytest.mark.parametrize("origin", tiny.FORMATS)
def test_the_source_is_never_the_target(tmp_path: Path, origin: str, overwrite: _target.Overwrite) -> None:
    source = tiny.write(tmp_path / "source", origin)
    with pytest.raises(UsageError, match="the source itself"):
        convert(source, source, overwrite=overwrite)
    with open_model(source) as file:
        assert file.tensors


def test_a_hard_link_to_the_source_is_the_source(tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf")
    os.link(source, tmp_path / "link.gguf")
    with pytest.raises(UsageError, match="the source itself"):
        convert(source, tmp_path / "link.gguf", overwrite="replace")


def test_the_folder_that_holds_a_source_file_is_the_source(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "source", "safetensors")
    with pytest.raises(UsageError, match="the source itself"):
        convert(folder / "model.safetensors", folder, overwrite="replace")


def test_nothing_is_written_through_a_link(tmp_path: Path, target: Path) -> None:
    (target / "m.gguf").symlink_to(tmp_path / "elsewhere.gguf")
    with pytest.raises(UsageError, match="symbolic link"):
        convert(tiny.write(tmp_path / "source", "gguf"), target / "m.gguf", overwrite="replace")


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path, target: Path) -> None:
    with pytest.raises(UsageError, match="create it first"):
        convert(tiny.write(tmp_path / "source", "gguf"), target / "no" / "m.gguf")


def test_side_files_beside_a_weights_file_are_not_overwritten(tmp_path: Path, target: Path) -> None:
    (target / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"config\.json exists"):
        convert(tiny.write(tmp_path / "source", "gguf"), target / "m.safetensors")
    assert leftovers(target) == ["config.json"]
