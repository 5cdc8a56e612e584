"""`apr list`, `pull` and `rm` on a home of the test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apr import hub


def cached_model(home: Path) -> hub.CachedModel:
    return hub.CachedModel(
        schema="apr.cached-model/1",
        reference="smollm2",
        path=home / "m.gguf",
        sha256="ab" * 32,
        size_bytes=98_362_432,
        source="hf://a/b/c.gguf",
        pulled_at="2026-01-02T03:04:05Z",
        last_used="2026-01-02T03:04:05Z",
        promised_by="alias",
    )


def test_an_empty_cache_says_what_to_type(apr_command: Any) -> None:
    outcome = apr_command("list")
    assert outcome.exit_code == 0 and "next: apr pull smollm2" in outcome.out


def test_list_shows_what_is_here_and_what_can_be_had(
    apr_command: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "cached", lambda: [cached_model(home)])
    result = apr_command("list", "--json").json()
    assert [m["reference"] for m in result["cached"]] == ["smollm2"] and len(result["aliases"]) == len(hub.aliases())
    assert f"1 model, 98.4 MB, in {home}" in apr_command("list").out


def test_pull_of_a_file_of_ones_own_says_that_nothing_was_fetched(apr_command: Any, tiny_gguf: Path) -> None:
    result = apr_command("pull", tiny_gguf, "--json").json()
    assert result["was_cached"] is True and len(result["sha256"]) == 64
    assert "already here" in apr_command("pull", tiny_gguf).out


def test_pull_without_a_network_is_a_usage_error_and_names_the_switch(apr_command: Any) -> None:
    outcome = apr_command("pull", "smollm2", "--json")
    assert outcome.exit_code == 2 and outcome.json()["code"] == "offline-error" and "APR_OFFLINE" in outcome.err


def test_an_unknown_name_points_to_the_list(apr_command: Any) -> None:
    outcome = apr_command("run", "nosuchmodel", "hi")
    assert outcome.exit_code == 2 and "next: apr list" in outcome.err


def test_rm_says_what_was_removed(apr_command: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "cached", lambda: [cached_model(home)])
    monkeypatch.setattr(hub, "remove", lambda reference: cached_model(home))
    assert apr_command("rm", "smollm2", "--yes", "--json").json()["removed"]["reference"] == "smollm2"
    assert apr_command("rm", "smollm2", "-y").out == "removed smollm2; 98.4 MB are free again\n"


def test_rm_without_a_terminal_needs_yes(apr_command: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "cached", lambda: [cached_model(home)])
    outcome = apr_command("rm", "smollm2")
    assert outcome.exit_code == 2 and "--yes" in outcome.err


def test_rm_of_what_is_not_here_lists_what_is(apr_command: Any) -> None:
    outcome = apr_command("rm", "smollm2")
    assert outcome.exit_code == 2 and "cached is: nothing" in outcome.err
