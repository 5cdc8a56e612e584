"""What the tests of conversions share: digests are remembered in a folder of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_cache(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # a real model is looked for in the user's cache
    if "real" not in request.keywords:
        monkeypatch.setenv("APR_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty folder to write into."""
    folder = tmp_path / "target"
    folder.mkdir()
    return folder
