"""The file link: what a reader refuses is a finding with its code and byte; two readable files are no alarm."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from apr.errors import HubError
from apr.parity import file
from apr.parity._pair import Pair
from mutants.models import Stock
from parity.static_pairs import compared, examined, subject


def damaged(source: Path, folder: Path, edit: object) -> Path:
    target = folder / source.name
    data = bytearray(source.read_bytes())
    edit(data)  # type: ignore[operator]
    target.write_bytes(data)
    return target


def cut(data: bytearray) -> None:
    del data[-5000:]


def other_magic(data: bytearray) -> None:
    data[:4] = b"PK\x03\x04"


@pytest.mark.parametrize(
    ("file_format", "edit", "cause"),
    [
        ("gguf", cut, "file.corrupt"),
        ("apr", cut, "file.corrupt"),
        ("gguf", other_magic, "file.unreadable"),
        ("apr", other_magic, "file.unreadable"),
    ],
)
def test_a_damaged_file_is_named_with_the_readers_code(
    file_format: str, edit: object, cause: str, stock: Stock, tmp_path: Path
) -> None:
    path = damaged(stock.path("llama", file_format), tmp_path, edit)
    pair = Pair(subject(stock.path("llama", "safetensors")), subject(path))
    result = file.compare(pair)
    assert [f.cause for f in result.findings] == [cause]
    assert result.findings[0].where["code"] and "offset" in result.findings[0].where
    assert file.compare(pair.with_candidate(file.force(pair, result.findings))).verdict == "same"
    assert [f.cause for f in examined(file, path).findings] == [cause]
    pair.close()


def test_a_flipped_byte_of_a_guarded_file_is_found_by_its_checksum(stock: Stock, tmp_path: Path) -> None:
    def flip(data: bytearray) -> None:
        data[-2000] ^= 1

    path = damaged(stock.path("llama", "apr"), tmp_path, flip)
    result = compared(file, stock.path("llama", "apr"), path)
    assert result.findings[0].where["code"] == "checksum-mismatch"
    assert result.measure["first_different_byte"] == path.stat().st_size - 2000


def test_the_same_bytes_under_another_name_are_said_to_be_the_same(stock: Stock, tmp_path: Path) -> None:
    source = stock.path("llama", "gguf")
    shutil.copyfile(source, tmp_path / "copy.gguf")
    result = compared(file, source, tmp_path / "copy.gguf")
    assert result.verdict == "same" and result.measure["identical"] is True


def test_a_folder_with_other_side_files_is_not_identical(stock: Stock, tmp_path: Path) -> None:
    source = stock.path("llama", "safetensors")
    shutil.copytree(source, tmp_path / "copy")
    assert compared(file, source, tmp_path / "copy").measure["identical"] is True
    config = tmp_path / "copy" / "config.json"
    config.write_text(config.read_text().replace("0.00001", "0.001").replace("1e-05", "1e-03"))
    result = compared(file, source, tmp_path / "copy")
    assert result.verdict == "same" and result.measure["identical"] is False


@pytest.mark.parametrize("file_format", ["gguf", "apr"])
def test_another_container_is_no_alarm(file_format: str, stock: Stock) -> None:
    result = compared(file, stock.path("llama", "safetensors"), stock.path("llama", file_format))
    assert result.verdict == "same" and result.measure["identical"] is False


def test_a_damaged_reference_leaves_nothing_to_compare_with(stock: Stock, tmp_path: Path) -> None:
    path = damaged(stock.path("llama", "gguf"), tmp_path, cut)
    assert compared(file, path, stock.path("llama", "gguf")).verdict == "not_comparable"


def test_a_path_where_nothing_is_remains_the_users_error(stock: Stock, tmp_path: Path) -> None:
    with pytest.raises(HubError):
        compared(file, stock.path("llama", "gguf"), tmp_path / "nothing.gguf")


def test_one_file_says_whether_a_checksum_guards_it(stock: Stock) -> None:
    assert "no checksum" in examined(file, stock.path("llama", "gguf")).sentence
    assert "checksums are right" in examined(file, stock.path("llama", "apr")).sentence
