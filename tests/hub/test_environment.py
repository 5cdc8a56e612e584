"""The environment variables of the room."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from apr.hub import _environment


def test_apr_home_moves_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APR_HOME", str(tmp_path / "elsewhere"))
    assert _environment.cache_dir() == tmp_path / "elsewhere" / "models"


def test_without_apr_home_the_models_are_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APR_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _environment.cache_dir() == tmp_path / "apr" / "models"


@pytest.mark.parametrize("home", [None, "", "/somewhere", "relative"])
@pytest.mark.parametrize("cache", [None, "", "/elsewhere"])
def test_the_users_cache_is_where_platformdirs_has_it(
    home: str | None, cache: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("APR_HOME", None), ("HOME", home), ("XDG_CACHE_HOME", cache)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert _environment.cache_dir() == platformdirs.user_cache_path("apr") / "models"


@pytest.mark.parametrize(
    ("ours", "hubs", "expected"),
    [
        ("1", "", "APR_OFFLINE"),
        ("", "true", "HF_HUB_OFFLINE"),
        ("0", "1", None),
        ("", "", None),
        ("YES", "", "APR_OFFLINE"),
    ],
)
def test_the_network_is_closed_by_either_switch(
    ours: str, hubs: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APR_OFFLINE", ours)
    monkeypatch.setenv("HF_HUB_OFFLINE", hubs)
    assert _environment.offline_switch() == expected


def test_the_hub_has_the_time_that_its_own_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _environment.hub_answer_s() < 8
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "30")
    assert _environment.hub_answer_s() == 30
