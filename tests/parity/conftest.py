"""Healthy twins on disk, written once for all tests of the links."""

from __future__ import annotations

import pytest

from mutants.models import Stock


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return Stock(tmp_path_factory.mktemp("stock"))
