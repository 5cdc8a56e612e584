"""Healthy twins on disk, written once for all tests of the links."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apr.engines._subject import Subject
from mutants.models import Stock


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return Stock(tmp_path_factory.mktemp("stock"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the models of one file of tests."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def opened() -> Iterator[list[Subject]]:
    """What a test opens, closed behind it."""
    subjects: list[Subject] = []
    yield subjects
    for subject in subjects:
        subject.close()
