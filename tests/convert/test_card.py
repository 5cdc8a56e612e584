"""What a model card says of a model, on its way into GGUF: gguf-py reads the same card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest

import tiny
from apr.convert import _card, convert
from apr.formats import open_model

CARD = """---
license: other
license_name: some-licence
license_link: https://example.org/licence
language:
- en
- no
pipeline_tag: text-generation
tags:
- code
- chat
base_model:
- Some-Org/Base-7B
- https://huggingface.co/Other-Org/Other-Base
datasets: some-org/some-data
model_creator: A. Uthor
version: 1.5
---
# A model

license: mit
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with a card beside it."""
    source = tiny.write(tmp_path / "source", "safetensors")
    (source / "README.md").write_text(CARD, encoding="utf-8")
    return source


def test_gguf_py_reads_the_same_from_the_card(folder: Path) -> None:
    theirs = gguf.Metadata.load(model_path=folder)
    ours, notes = _card.read(folder)
    assert not notes
    assert ours["general.license"] == theirs.license == "other"
    assert ours["general.license.name"] == theirs.license_name and ours["general.license.link"] == theirs.license_link
    assert ours["general.author"] == theirs.author == "A. Uthor"
    assert ours["general.tags"] == theirs.tags and ours["general.languages"] == theirs.languages == ["en", "no"]
    assert theirs.base_models is not None and theirs.datasets is not None
    assert ours["general.base_model.count"] == len(theirs.base_models) == 2
    for number, model in enumerate(theirs.base_models):
        assert ours[f"general.base_model.{number}.repo_url"] == model["repo_url"]
        assert ours[f"general.base_model.{number}.organization"].replace("-", " ") == model["organization"]
    assert ours["general.dataset.0.repo_url"] == theirs.datasets[0]["repo_url"]


@pytest.mark.parametrize("way", ["m.gguf", "m.apr"])
def test_the_licence_reaches_the_copy_by_every_way(folder: Path, target: Path, way: str) -> None:
    convert(folder, target / way)
    if way == "m.apr":
        with open_model(target / way) as file:
            assert file.metadata["license"] == "other"
        convert(target / way, target / "m.gguf")
    fields = gguf.GGUFReader(target / "m.gguf").fields
    expected = {
        "general.license": "other",
        "general.license.link": "https://example.org/licence",
        "general.base_model.count": 2,
        "general.base_model.1.name": "Other-Base",
        "general.languages": ["en", "no"],
    }
    assert {key: fields[key].contents() for key in expected} == expected


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("---\nlicense: [unclosed\n---\n", "left out"),
        ("---\n- a\n- list\n---\n", "left out"),
        ("no metadata at all", ""),
        ("---\nlicense: {nested: mapping}\nlanguage: 5\n---\n", ""),
        ("---\n" + "x: " + "[" * 3000 + "\n---\n", "left out"),
        ("---\na: &a [x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(50)) + "---\n", ""),
        ("---\nlicense: mit\n---\n" + "x" * (5 << 20), "more than"),
    ],
)
def test_a_card_that_cannot_be_read_keeps_no_model_from_being_converted(
    text: str, note: str, tmp_path: Path, target: Path
) -> None:
    source = tiny.write(tmp_path / "source", "safetensors")
    (source / "README.md").write_text(text, encoding="utf-8")
    notes = [line for line in convert(source, target / "m.gguf").notes if "README.md" in line]
    assert (len(notes) == 1 and note in notes[0]) if note else not notes


def test_bytes_that_are_no_text_and_a_folder_of_that_name_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\xfe\n---\n")
    keys, notes = _card.read(tmp_path)
    assert not keys and len(notes) == 1
    (tmp_path / "other" / "README.md").mkdir(parents=True)
    assert _card.read(tmp_path / "other") == ({}, ())


def found(value: Any) -> list[str]:
    """As the module reads one value."""
    return _card._texts(value)


def test_numbers_and_switches_are_texts() -> None:
    assert (
        found(1.5) == ["1.5"] and found([False, "en"]) == ["no", "en"] and found({"a": 1}) == [] and found(None) == []
    )
