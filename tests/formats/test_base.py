"""A mapped file gives memory back without losing a byte."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from apr.formats._base import MappedFile

N_PAGES = 64
PAGE = mmap.PAGESIZE


@pytest.fixture
def mapped(tmp_path: Path) -> MappedFile:
    path = tmp_path / "data"
    np.arange(N_PAGES * PAGE // 8, dtype=np.int64).tofile(path)
    return MappedFile(path)


def resident_bytes(path: Path) -> int:
    """Of the mappings of a file in this process."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    return sum(
        next(int(rest.split()[1]) * 1024 for rest in lines if rest.startswith("Rss:"))
        for line in lines
        if line.endswith(str(path))
    )


@pytest.mark.parametrize(("start", "stop"), [(0, N_PAGES * PAGE), (8, 24), (PAGE - 8, 3 * PAGE + 8), (8, PAGE)])
def test_what_was_released_is_read_again_when_it_is_needed(mapped: MappedFile, start: int, stop: int) -> None:
    view = mapped.bytes_at(0, mapped.size)
    before = view.copy()
    mapped.release(start, stop - start)
    np.testing.assert_array_equal(view, before)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux which pages are in memory")
def test_only_whole_pages_inside_the_range_are_given_up(mapped: MappedFile) -> None:
    mapped.bytes_at(0, mapped.size).sum()
    assert resident_bytes(mapped.path) == N_PAGES * PAGE
    mapped.release(8, 10 * PAGE)
    assert resident_bytes(mapped.path) == (N_PAGES - 9) * PAGE


def test_an_empty_file_has_nothing_to_release(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    MappedFile(tmp_path / "empty").release(0, 0)
