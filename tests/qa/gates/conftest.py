"""Healthy twins that the tests of the gates share; they are altered in copies only."""

from __future__ import annotations

import pytest

from mutants.models import Stock


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """Twins of every architecture in every format, each written when it is first asked for."""
    return Stock(tmp_path_factory.mktemp("stock"))
