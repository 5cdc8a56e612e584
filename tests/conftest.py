"""Fixtures that many rooms share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from apr import hub


@pytest.fixture(scope="session")
def real_model() -> Callable[[str], Path]:
    """The local path of a real model by alias, pulled the first time; without a network and a cached copy the test fails."""
    return hub.resolve


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No colour switches of the person who runs the tests."""
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
