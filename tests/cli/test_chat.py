"""`apr chat`, from a pipe; what needs a terminal is in test_terminal.py."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from apr.cli.chat import complete_command


@pytest.fixture
def chat(apr_command: Any, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(lines: str, *arguments: str) -> Any:
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        return apr_command("chat", tiny_gguf, "-n", "4", "-t", "0", *arguments)

    return run


def records(outcome: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in outcome.out.splitlines()]


def test_each_line_is_a_turn_and_the_second_has_read_the_first(chat: Any) -> None:
    first, second = records(chat("one\n\ntwo\n", "--json"))
    assert second["prompt_text"].startswith(first["prompt_text"] + first["text"].replace("\r", ""))
    # the answer's ids may not come back from its text, but all that was asked does
    assert second["cached_prompt_tokens"] >= len(first["prompt_token_ids"]) and "two" in second["prompt_text"]


def test_exact_arithmetic_can_be_asked_for(chat: Any) -> None:
    (record,) = records(chat("one\n", "--json", "--exact"))
    assert record["activations"] == "float32"


def test_reset_forgets(chat: Any) -> None:
    _, second = records(chat("one\n/reset\ntwo\n", "--json"))
    assert "one" not in second["prompt_text"]


def test_system_sets_and_starts_again(chat: Any) -> None:
    outcome = chat("one\n/system Be brief.\ntwo\n", "--json")
    _, second = records(outcome)
    assert "Be brief." in second["prompt_text"] and "one" not in second["prompt_text"]
    assert "system message set" in outcome.err


def test_exit_leaves_before_the_next_line(chat: Any) -> None:
    outcome = chat("/exit\none\n", "--json")
    assert (outcome.exit_code, outcome.out) == (0, "")


def test_help_and_an_unknown_command_are_answered_on_stderr(chat: Any) -> None:
    outcome = chat("/help\n/dance\n")
    assert outcome.out == "" and "/system TEXT" in outcome.err and "no command /dance; /help lists them" in outcome.err


def test_from_a_pipe_a_turn_that_does_not_fit_ends_the_program(chat: Any) -> None:
    outcome = chat("hi " * 500 + "\n")
    assert outcome.exit_code == 2 and "the model is made for 256" in outcome.err


def test_tab_completes_slash_commands() -> None:
    assert (complete_command("/s", 0), complete_command("/s", 1)) == ("/system ", None)
    assert complete_command("s", 0) is None
