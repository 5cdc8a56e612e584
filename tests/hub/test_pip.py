"""Where the package index is, as pip is configured."""

from __future__ import annotations

import base64
import subprocess
import sys
from typing import Any

import pytest

from apr.hub import _environment, _pip


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    found = {name.replace("_", "-"): value for name, value in values.items()}
    monkeypatch.setattr(_environment, "pip_variables", lambda: found)


def test_the_index_comes_first_then_the_extra_ones_then_the_links(monkeypatch: pytest.MonkeyPatch) -> None:
    settings(
        monkeypatch, index_url="https://a/simple/", extra_index_url="https://b/s file:///c/s", find_links="/wheels"
    )
    found = [(place.url, place.is_index) for place in _pip.locations()]
    assert found == [
        ("https://a/simple", True),
        ("https://b/s", True),
        ("file:///c/s", True),
        ("file:///wheels", False),
    ]


def test_without_a_setting_the_index_is_pips_own(monkeypatch: pytest.MonkeyPatch) -> None:
    settings(monkeypatch)
    from pip._internal.models.index import PyPI

    assert [place.url for place in _pip.locations()] == [PyPI.simple_url]


def test_a_password_is_sent_as_a_header_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings(monkeypatch, index_url="https://user:p%40ss@host/simple")
    [place] = _pip.locations()
    assert place.url == "https://host/simple"
    assert place.secrets == {"Authorization": "Basic " + base64.b64encode(b"user:p@ss").decode()}


def test_an_environment_variable_is_stronger_than_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pip, "_configured", lambda: {"index-url": "https://file/s", "cert": "/ca.pem"})
    settings(monkeypatch, index_url="https://environment/s")
    [place] = _pip.locations()
    assert place.url == "https://environment/s" and place.cafile == "/ca.pem"


def test_no_index_leaves_the_links(monkeypatch: pytest.MonkeyPatch) -> None:
    settings(monkeypatch, no_index="1", find_links="/wheels")
    assert [place.url for place in _pip.locations()] == ["file:///wheels"]


def test_what_pip_prints_is_read(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://global/s\nno-index = 0\n[download]\nindex-url = https://download/s\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    printed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    assert _pip.parse_config_list(printed.stdout)["index-url"] == "https://download/s"


def test_lines_that_are_not_settings_are_left_out() -> None:
    assert _pip.parse_config_list("global.a='1'\nnonsense\nglobal.b=__import__('os')\ninstall.c='2'\n") == {"a": "1"}


def test_a_python_without_pip_is_tolerated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    _pip._configured.cache_clear()
    assert _pip._configured() == {}
    _pip._configured.cache_clear()
