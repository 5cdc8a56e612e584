"""`apr eval`: tasks by name or file, options that mean something, and a run that outlives its killing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [{"id": i, "prompt": f"question {i}", "pattern": "(?s)."} for i in range(12)]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_json_satisfies_its_schema(apr_command: Any, tiny_gguf: Path, questions: Path, home: Path) -> None:
    outcome = apr_command("eval", tiny_gguf, "--task", questions, "--limit", "3", "--max-tokens", "3", "--json")
    report = outcome.json()
    assert outcome.exit_code == 0 and report["schema"] == "apr.eval/1"
    assert [(score["regime"], score["n"], score["n_all"]) for score in report["scores"]] == [
        ("raw", 3, 12),
        ("chat", 3, 12),
    ]
    assert str(home) in report["journal"] and report["journal"] in outcome.err


def test_the_text_has_both_regimes_and_the_coverage(apr_command: Any, tiny_gguf: Path, questions: Path) -> None:
    said = apr_command("eval", tiny_gguf, "--task", questions, "--limit", "3", "--max-tokens", "3").out
    assert "raw" in said and "chat" in said and "3 of 12 questions" in said and "Wilson" in said


def test_perplexity_of_a_text(apr_command: Any, tiny_gguf: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("words and words " * 20)
    report = apr_command(
        "eval", tiny_gguf, "--task", "perplexity", "--text", text, "--reference", tiny_gguf, "--json"
    ).json()
    assert [s["name"] for s in report["scores"]][:3] == ["perplexity", "reference_perplexity", "perplexity_ratio"]
    assert report["journal"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "nothing"], "no such task and no such file; tasks: humaneval"),
        (["--task", "perplexity"], "needs --text"),
        (["--task", "perplexity", "--samples", "2"], "--samples means nothing to --task perplexity"),
        (["--task", "humaneval", "--text", __file__], "--text means nothing to --task humaneval"),
        (["--task", "humaneval", "--k", "2"], "pass@2 needs 2 answers"),
        (["--task", "humaneval", "--limit", "0"], "--limit"),
        ([], "--task"),
    ],
)
def test_a_wrong_request_is_a_usage_error(apr_command: Any, tiny_gguf: Path, arguments: list[str], said: str) -> None:
    outcome = apr_command("eval", tiny_gguf, *arguments)
    assert (outcome.exit_code, outcome.out) == (2, "") and said in outcome.err


def test_an_endpoint_has_no_tokens_to_record(apr_command: Any, questions: Path) -> None:
    outcome = apr_command("eval", "openai://127.0.0.1:1/m", "--task", questions)
    assert outcome.exit_code == 2 and "is an endpoint" in outcome.err


def test_killed_without_warning_it_goes_on_where_it_stopped(tiny_gguf: Path, questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    asked = [sys.executable, "-m", "apr", "eval", str(tiny_gguf), "--task", str(questions), "--max-tokens", "60"]
    asked += ["--batch-size", "1", "--threads", "1", "--json", "--out"]
    with subprocess.Popen([*asked, str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as killed:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and killed.poll() is None and _n_lines(out) < 6:
            time.sleep(0.002)
        os.kill(killed.pid, signal.SIGKILL)
    n_kept = _n_lines(out)
    resumed = json.loads(subprocess.run([*asked, str(out)], capture_output=True, check=True).stdout)
    whole = json.loads(subprocess.run([*asked, str(tmp_path / "whole.jsonl")], capture_output=True, check=True).stdout)
    assert n_kept >= 6 and resumed["n_resumed"] >= 2
    assert resumed["items"] == whole["items"]
    assert _answers(out) == _answers(tmp_path / "whole.jsonl")


def _n_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _answers(path: Path) -> dict[str, list[int]]:
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    answers = [entry for entry in entries if entry["kind"] == "answer"]
    found = {entry["id"]: entry["record"]["output_token_ids"] for entry in answers}
    assert len(found) == len(answers) == 24
    return found
