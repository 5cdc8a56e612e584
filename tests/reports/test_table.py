"""Columns of text, with and without a terminal."""

from __future__ import annotations

import os
import shutil

import pytest

from apr.reports import _table

ROWS = [("a", "1"), ("bcd", "20")]


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((request.param, 24)))
    monkeypatch.setenv("NO_COLOR", "1")
    n: int = request.param
    return n


def test_columns_are_aligned_without_trailing_blanks() -> None:
    assert _table.table(("N", "V"), ROWS, right=(1,)) == "N     V\na     1\nbcd  20"


def test_wide_characters_take_two_columns() -> None:
    assert _table.table(("N", "V"), [("日本", "x"), ("e\u0301", "y")]) == "N     V\n日本  x\ne\u0301     y"


@pytest.mark.parametrize("columns", [40], indirect=True)
def test_a_last_column_of_text_is_wrapped_under_itself(columns: int) -> None:
    shown = _table.table(("N", "WHAT"), [("abc", "word " * 20)])
    assert max(map(len, shown.splitlines())) <= columns
    assert all(line.startswith("     word") for line in shown.splitlines()[2:])


@pytest.mark.parametrize("columns", [20], indirect=True)
def test_numbers_that_do_not_fit_become_tab_separated(columns: int) -> None:
    assert _table.table(("NAME", "V"), [("x" * 30, "1")], right=(1,)) == "NAME\tV\n" + "x" * 30 + "\t1"


@pytest.mark.parametrize("columns", [30], indirect=True)
def test_facts_wrap_under_their_value(columns: int) -> None:
    assert _table.facts([("name", "one two three four five six")]) == "  name  one two three four\n        five six"


@pytest.mark.parametrize(
    ("n", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_960, "1.0 MB"),
        (98_362_432, "98.4 MB"),
        (2 * 10**12, "2.0 TB"),
    ],
)
def test_sizes_round_into_the_next_unit(n: int, shown: str) -> None:
    assert _table.size(n) == shown


@pytest.mark.parametrize(
    ("n", "shown"), [(7, "7"), (999_999, "1.0M"), (134_515_008, "134.5M"), (1_800_000_000, "1.8B")]
)
def test_counts_round_into_the_next_unit(n: int, shown: str) -> None:
    assert _table.count(n) == shown


def test_a_small_share_still_has_a_bar() -> None:
    assert (_table.bar(0.0), _table.bar(0.0001), _table.bar(1.0)) == ("", "█", "█" * 24)
