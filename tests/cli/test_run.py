"""`apr run`: where the prompt comes from, what goes where, and how it ends."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.engines import _generate


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_every_format_runs(apr_command: Any, tmp_path: Path, file_format: str) -> None:
    path = tiny.write(tmp_path / "m", file_format)
    outcome = apr_command("run", path, "hi", "-n", "3")
    assert outcome.exit_code == 0 and outcome.out.endswith("\n")
    assert "chat template applied" in outcome.err and "3 tokens, stopped by --max-tokens; decode" in outcome.err


def test_json_is_the_run_record_and_the_text_is_the_streamed_one(apr_command: Any, tiny_gguf: Path) -> None:
    streamed = apr_command("run", tiny_gguf, "hi", "-n", "5")
    record = apr_command("run", tiny_gguf, "hi", "-n", "5", "--json").json()
    assert record["schema"] == "apr.run/1" and record["finish_reason"] == "length"
    assert record["text"] + "\n" == streamed.out and len(record["output_token_ids"]) == 5


@pytest.mark.parametrize("arguments", [["--exact"], ["--engine", "numpy"]], ids=" ".join)
def test_exact_arithmetic_can_be_asked_for(apr_command: Any, tiny_gguf: Path, arguments: list[str]) -> None:
    record = apr_command("run", tiny_gguf, "hi", "-n", "3", "--json", *arguments).json()
    assert (record["activations"], record["kv_cache"]) == ("float32", "float32")
    assert "numpy" not in arguments or record["engine"] == "numpy"


def test_the_record_is_kept(apr_command: Any, tiny_gguf: Path, tmp_path: Path) -> None:
    apr_command("run", tiny_gguf, "hi", "-n", "2", "--record", tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["schema"] == "apr.run/1"


def test_quiet_says_nothing_on_stderr(apr_command: Any, tiny_gguf: Path) -> None:
    assert apr_command("run", tiny_gguf, "hi", "-n", "2", "-q").err == ""


def test_standard_input_loses_one_final_line_break(
    apr_command: Any, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n\n"))
    record = apr_command("run", tiny_gguf, "--raw", "-n", "1", "--json").json()
    assert record["prompt_text"] == "one\ntwo\n" and record["template"]["decision"] == "raw"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "--prompt", "b"], "given twice"),
        ([""], "the prompt is empty"),
        (["\udcff"], "not UTF-8"),
        (["hi", "--raw", "--system", "x"], "leave out --raw or --system"),
        (["hi", "--engine", "abacus"], "'abacus'"),
        (["hi", "-n", "0"], "max-tokens"),
        (["hi " * 500], "the model is made for 256"),
    ],
)
def test_a_wrong_request_is_a_usage_error(apr_command: Any, tiny_gguf: Path, arguments: list[str], said: str) -> None:
    outcome = apr_command("run", tiny_gguf, *arguments)
    assert (outcome.exit_code, outcome.out) == (2, "") and said in outcome.err


def test_standard_input_that_is_no_text_is_a_usage_error(
    apr_command: Any, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8"))
    outcome = apr_command("run", tiny_gguf)
    assert outcome.exit_code == 2 and "not UTF-8" in outcome.err


def test_an_interruption_keeps_what_there_is_and_exits_130(
    apr_command: Any, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = apr_command("run", tiny_gguf, "hi", "-n", "9", "--json").json()
    after, steps = _generate._after, iter(range(100))

    def interrupted(*arguments: Any) -> Any:
        if next(steps) == 4:
            raise KeyboardInterrupt
        return after(*arguments)

    monkeypatch.setattr(_generate, "_after", interrupted)
    outcome = apr_command("run", tiny_gguf, "hi", "-n", "9", "--json")
    record = outcome.json()
    assert outcome.exit_code == 130 and record["finish_reason"] == "interrupted"
    assert record["output_token_ids"] == whole["output_token_ids"][:4]


def test_weights_that_are_not_numbers_are_an_engine_failure(apr_command: Any, damaged_gguf: Path) -> None:
    outcome = apr_command("run", damaged_gguf, "hi", "--json")
    assert outcome.exit_code == 4 and outcome.json()["code"] == "engine-error"


def test_an_engine_may_stand_behind_the_model(apr_command: Any, tiny_gguf: Path) -> None:
    assert apr_command("run", f"{tiny_gguf}@numpy", "hi", "-n", "2", "--json").json()["engine"] == "numpy"


def test_an_endpoint_is_not_run_and_the_message_says_what_is_done_with_it(apr_command: Any) -> None:
    outcome = apr_command("run", "openai://127.0.0.1:1/x", "hi")
    assert outcome.exit_code == 2 and "next: apr parity MODEL openai://127.0.0.1:1/x" in outcome.err
