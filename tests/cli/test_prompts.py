"""`apr run --prompts`: a file of JSON lines in, texts or records out, in the file's order; what is wrong has its line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apr.cli import _prompts
from apr.engines import _generate

LINES: list[dict[str, Any]] = [
    {"prompt": "hi", "id": "first"},
    {"prompt": "a rather longer prompt than the others"},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}], "id": 3},
    {"prompt": "x", "id": "last"},
]
Many = Callable[..., Any]


@pytest.fixture
def many(apr_command: Any, tiny_gguf: Path, tmp_path: Path) -> Many:
    """`apr run --prompts` over lines: objects, or text as it stands."""

    def run(lines: list[Any], *arguments: str) -> Any:
        path = tmp_path / "p.jsonl"
        path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
        return apr_command("run", tiny_gguf, "--prompts", path, "-n", "6", *arguments)

    return run


def records(outcome: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in outcome.out.splitlines()]


@pytest.mark.parametrize("size", ["1", "2", "8"])
def test_each_record_is_what_the_prompt_gives_alone(many: Many, apr_command: Any, tiny_gguf: Path, size: str) -> None:
    together = records(many(LINES, "--json", "--batch-size", size, "-t", "0.9", "--seed", "5"))
    alone = apr_command("run", tiny_gguf, "hi", "-n", "6", "-t", "0.9", "--seed", "5", "--json").json()
    assert [r["prompt_id"] for r in together] == ["first", None, 3, "last"] and alone["prompt_id"] is None
    assert [r["batch"] for r in together] == [min(int(size), 4)] * 4
    assert together[0]["output_token_ids"] == alone["output_token_ids"]
    assert "Be brief." in together[2]["prompt_text"]


def test_texts_come_under_headings_in_the_files_order(many: Many) -> None:
    outcome = many(LINES, "--batch-size", "2")
    expected = [r["text"] for r in records(many(LINES, "--json"))]
    blocks = [
        f"==> {name} <==\n{text}" + "\n" * (not text.endswith("\n"))
        for name, text in zip(["first", "2", "3", "last"], expected, strict=True)
    ]
    assert outcome.exit_code == 0 and outcome.out == "\n".join(blocks)
    assert "4 prompts" in outcome.err and "2 at a time; chat template applied" in outcome.err
    assert "24 tokens" in outcome.err and "tok/s" in outcome.err


def test_quiet_says_nothing_on_stderr(many: Many) -> None:
    assert many(LINES, "-q").err == ""


def test_empty_lines_are_skipped_and_a_byte_order_mark_too(many: Many) -> None:
    outcome = many(["\ufeff" + json.dumps(LINES[0]), "", "  ", LINES[3]], "--json")
    assert [r["prompt_id"] for r in records(outcome)] == ["first", "last"]


def test_standard_input_can_be_the_file(apr_command: Any, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(LINES[0]).encode()), encoding="utf-8"))
    outcome = apr_command("run", tiny_gguf, "--prompts", "-", "-n", "1", "--json")
    assert outcome.json()["prompt_id"] == "first"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt"', "p.jsonl: line 2, column 10: not JSON"),
        ("hello", "p.jsonl: line 2, column 1: not JSON"),
        ('["hi"]', 'found a list, expected an object with "prompt" or "messages"'),
        ("null", "found null, expected an object"),
        ({"promt": "hi"}, "found the key 'promt', expected an object with \"prompt\""),
        ({"id": "x"}, 'found neither "prompt" nor "messages"'),
        ({"prompt": "hi", "messages": []}, 'found both "prompt" and "messages"'),
        ({"prompt": 3}, '"prompt" is a number, expected a string'),
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": "hi", "id": 1.5}, '"id" is a number, expected a string or an integer'),
        ({"prompt": "hi", "id": True}, '"id" is true'),
        ({"messages": []}, '"messages" is an empty list'),
        ({"messages": "hi"}, '"messages" is a string'),
        ({"messages": ["hi"]}, "message 1 is a string"),
        ({"messages": [{"role": "user"}]}, 'message 1 has no "content"'),
        ({"messages": [{"role": "user", "content": None}]}, '"content" of message 1 is null, expected a string'),
        ('{"prompt": "a", "prompt": "b"}', "the key 'prompt' stands twice"),
        ('{"prompt": "\\ud800"}', "half a surrogate pair"),
        ("[" * 100_000, "line 2"),
        ({"prompt": "hi " * 500}, "p.jsonl: line 2: the prompt has"),
    ],
)
def test_a_wrong_line_is_a_usage_error_that_names_it(many: Many, line: Any, said: str) -> None:
    outcome = many([LINES[0], line])
    assert (outcome.exit_code, outcome.out) == (2, "") and said in outcome.err and "line 2" in outcome.err


def test_bytes_that_are_no_text_are_named_with_their_line(apr_command: Any, tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b'{"prompt": "a"}\n{"prompt": "\xff"}\n')
    outcome = apr_command("run", tiny_gguf, "--prompts", tmp_path / "p.jsonl")
    assert outcome.exit_code == 2 and "line 2: byte 13 is not UTF-8" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hi"], "a prompt and --prompts"),
        (["-p", "hi"], "a prompt and --prompts"),
        (["--record", "r.json"], "--record keeps one run"),
        (["--batch-size", "0"], "batch-size"),
        (["--raw"], 'p.jsonl: line 3: "messages" are a whole conversation'),
        (["--system", "x"], 'p.jsonl: line 3: "messages" are a whole conversation'),
    ],
)
def test_options_that_contradict_each_other_are_a_usage_error(many: Many, arguments: list[str], said: str) -> None:
    outcome = many(LINES, *arguments)
    assert (outcome.exit_code, outcome.out) == (2, "") and said in outcome.err


def test_a_batch_size_without_a_file_is_a_usage_error(apr_command: Any, tiny_gguf: Path) -> None:
    outcome = apr_command("run", tiny_gguf, "hi", "--batch-size", "2")
    assert outcome.exit_code == 2 and "--batch-size is for --prompts" in outcome.err


def test_a_file_without_prompts_and_a_missing_one_are_usage_errors(
    many: Many, apr_command: Any, tiny_gguf: Path
) -> None:
    assert "no prompt in it" in many(["", ""]).err
    missing = apr_command("run", tiny_gguf, "--prompts", "nowhere.jsonl")
    assert missing.exit_code == 2 and "nowhere.jsonl" in missing.err


def test_an_interruption_keeps_what_there_is_and_exits_130(many: Many, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = records(many(LINES, "--json"))
    after, steps = _generate._after, iter(range(100))

    def interrupted(*arguments: Any) -> Any:
        if next(steps) == 15:  # two ended after six steps each, the third and fourth are on their second
            raise KeyboardInterrupt
        return after(*arguments)

    monkeypatch.setattr(_generate, "_after", interrupted)
    outcome = many(LINES, "--json", "--batch-size", "2")
    kept = records(outcome)
    assert outcome.exit_code == 130 and "interrupted after 2 of 4 prompts" in outcome.err
    assert [r["finish_reason"] for r in kept] == ["length", "length", "interrupted", "interrupted"]
    assert [r["output_token_ids"] for r in kept[:2]] == [r["output_token_ids"] for r in whole[:2]]
    assert kept[2]["output_token_ids"] == whole[2]["output_token_ids"][:2]


def test_a_text_may_hold_what_only_some_split_lines_at(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(json.dumps({"prompt": "a\u2028b\x85c"}, ensure_ascii=False).encode())
    assert [line.prompt for line in _prompts.many(path)] == ["a\u2028b\x85c"]
