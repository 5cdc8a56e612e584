"""The registry: a plug-in is a file in a folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from apr import _folder
from apr.errors import UnsupportedError

FOLDERS = ("apr.kernels.quants", "apr.formats", "apr.models", "apr.engines", "apr.qa.gates", "apr.reports", "apr.cli")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with three plug-ins and some machinery."""
    package = tmp_path / "planted_folder"
    package.mkdir()
    for name in ("__init__", "zebra", "llama_cpp", "ape", "_machinery"):
        (package / f"{name}.py").write_text(f"NAME = {name!r}\n")
    (package / "notes.txt").write_text("no plug-in")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [m for m in sys.modules if m.startswith("planted_folder")]:
        monkeypatch.delitem(sys.modules, name)
    return "planted_folder"


def test_names_are_the_files_sorted_as_users_type_them(folder: str) -> None:
    assert _folder.names(folder) == ["ape", "llama-cpp", "zebra"]


@pytest.mark.parametrize("name", ["llama-cpp", "llama_cpp"])
def test_dashes_and_underscores_are_one(name: str, folder: str) -> None:
    assert _folder.load(folder, name).NAME == "llama_cpp"


@pytest.mark.parametrize(
    "name", ["_machinery", "-machinery", "__init__", "", "os", "..errors", "Ape", "notes.txt", "ape.zebra"]
)
def test_any_other_name_lists_what_there_is(name: str, folder: str) -> None:
    with pytest.raises(UnsupportedError, match="known: ape, llama-cpp, zebra"):
        _folder.load(folder, name)


@pytest.mark.parametrize("package", FOLDERS)
def test_every_plug_in_of_the_house_loads_under_its_name(package: str) -> None:
    names = _folder.names(package)
    assert names == sorted(names) and not any(name.startswith(("_", "-")) for name in names)
    for name in names:
        assert _folder.load(package, name).__name__ == f"{package}.{name.replace('-', '_')}"
        assert _folder.load(package, name).__doc__


def test_a_file_that_is_dropped_into_a_folder_is_found(folder: str, tmp_path: Path) -> None:
    before = _folder.names(folder)
    (tmp_path / folder / "new_one.py").write_text("")
    changed = (tmp_path / folder).stat().st_mtime_ns + 1  # a clock's tick may be longer than this test
    os.utime(tmp_path / folder, ns=(changed, changed))
    assert "new-one" not in before and "new-one" in _folder.names(folder)
