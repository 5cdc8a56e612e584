"""A tiny model, and a home for what is remembered of its digests."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home."""
    monkeypatch.setenv("APR_HOME", str(tmp_path / "home"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny llama, as GGUF."""
    return tiny.write(tmp_path / "model", "gguf")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of a store that is not there yet."""
    return tmp_path / "evidence"
