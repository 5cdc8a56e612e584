"""A user's own questions: oracles that are exact, and files that are refused by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.errors import UsageError
from apr.evals import _questions
from apr.evals._options import Options


def written(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


@pytest.mark.parametrize(
    ("oracle", "expected", "right", "wrong"),
    [
        ("contains", "4", ["4", "is 4.", "(4)", "=4,"], ["14", "44", "4.5", "0.4", "-4", "four", ""]),
        ("contains", "Paris", ["Paris", "It is Paris."], ["Parisian", "paris"]),
        ("answer", "OK", ["OK", " OK\n"], ["OK.", "ok", "OK OK"]),
        ("pattern", r"(?i)\bpar(is|ys)\b", ["PARIS"], ["Parisian"]),
    ],
)  # fmt: skip
def test_an_oracle_is_exact(oracle: str, expected: str, right: list[str], wrong: list[str]) -> None:
    question = _questions.OwnQuestion("q", "?", oracle, expected)
    assert [text for text in right if not question.is_right(text)] == []
    assert [text for text in wrong if question.is_right(text)] == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{broken", "not JSON"),
        ([1], "expected only"),
        ({"prompt": "x", "answer": "y", "typo": 1}, "typo"),
        ({"prompt": "x"}, "0 oracles"),
        ({"prompt": "x", "answer": "a", "contains": "b"}, "2 oracles"),
        ({"answer": "a"}, 'either "prompt" or "messages"'),
        ({"prompt": "", "answer": "a"}, "are strings"),
        ({"prompt": "x", "answer": 4}, "are strings"),
        ({"messages": [{"role": "user"}], "answer": "a"}, '"role" and "content"'),
        ({"prompt": "x", "pattern": "("}, "no regular expression"),
        ({"prompt": "x", "pattern": "a*"}, "an empty answer would satisfy"),
        ({"prompt": "x", "answer": " "}, "an empty answer would satisfy"),
        ({"prompt": "x", "answer": "a", "id": 1.5}, "no string and no integer"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path: Path, row: Any, said: str) -> None:
    path = written(tmp_path / "q.jsonl", {"prompt": "x", "answer": "y"}, row)
    with pytest.raises(UsageError, match="line 2") as caught:
        _questions.read(path)
    assert said in str(caught.value)


def test_an_id_is_used_once_and_a_file_is_not_empty(tmp_path: Path) -> None:
    row = {"id": "a", "prompt": "x", "answer": "y"}
    with pytest.raises(UsageError, match="a second time"):
        _questions.read(written(tmp_path / "q.jsonl", row, row))
    with pytest.raises(UsageError, match="no question"):
        _questions.read(written(tmp_path / "e.jsonl", ""))


def test_a_tiny_model_is_scored_by_what_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APR_HOME", str(tmp_path / "home"))
    model = tiny.write(tmp_path / "m", "gguf")
    file = written(
        tmp_path / "q.jsonl",
        {"id": "all", "prompt": "abc", "pattern": "(?s)."},
        {"id": "none", "prompt": "abc", "contains": "surely not this"},
        {"id": "chat", "messages": [{"role": "user", "content": "x"}], "pattern": "(?s)."},
    )
    options = Options(model=str(model), questions=file, max_tokens=4, threads=1, out=tmp_path / "out.jsonl")
    report = _questions.run(options)
    by_regime = {score.regime: score for score in report.scores}
    assert (by_regime["raw"].n_passed, by_regime["raw"].n, by_regime["raw"].n_all) == (1, 2, 3)
    assert (by_regime["chat"].n_passed, by_regime["chat"].n) == (2, 3) and by_regime["chat"].interval is not None
    assert _questions.run(options).n_resumed == 5
    written(file, {"id": "all", "prompt": "changed", "pattern": "(?s)."})
    with pytest.raises(UsageError, match="questions_sha256"):
        _questions.run(options)
