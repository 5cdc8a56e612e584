"""Results as text: escapes, plurals, colours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from apr.engines._record import Timings
from apr.hub import Pulled
from apr.reports import _style, text


def test_names_show_every_control_and_formatting_character() -> None:
    assert text.visible("a\x1b[2J\n\u202e\x9b\ud800\U000e0041é") == "a\\x1b[2J\\x0a\\u202e\\x9b\\ud800\\U000e0041é"


def test_generated_text_keeps_lines_tabs_and_emoji_joiners_only() -> None:
    assert text.safe_for_terminal("a\n\tb\r\x1b\u2066\U0001f468\u200d\U0001f33e") == (
        "a\n\tb\\x0d\\x1b\\u2066\U0001f468\u200d\U0001f33e"
    )


def test_further_lines_of_an_error_cannot_pose_as_ours() -> None:
    assert text.problem("first\napr: all is well\x1b") == "apr: first\n     apr: all is well\\x1b"


def test_a_rate_that_was_not_measured_is_not_shown() -> None:
    line = text.speed_line("eos", 1, Timings(0.5, 0.1, 0.0, 120.0, 0.0))
    assert line == "apr: 1 token, ended by the model; prefill 120.0 tok/s; load 0.50 s"


def test_the_next_command_is_quoted_for_a_shell(tmp_path: Path) -> None:
    pulled = Pulled("apr.pull/1", "my model.gguf", tmp_path, "my model.gguf", "00" * 32, 10, True, 0.0, "none")
    assert "apr run 'my model.gguf' \"Hello\"" in text.pulled(pulled)


@pytest.mark.parametrize(
    ("variables", "is_terminal", "expected"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_who_decides_about_colour(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_terminal: bool, expected: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    assert _style.is_coloured(sys.stdout) is expected
    assert _style.paint("x", "red") == ("\x1b[31mx\x1b[0m" if expected else "x")
