"""`apr imatrix` as it is typed: a JSON result, and nothing written over."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_the_result_and_what_is_refused(apr_command: Any, tiny_gguf: Path, tmp_path: Path) -> None:
    text, matrix = tmp_path / "text.txt", tmp_path / "m.gguf"
    text.write_text("the rain in spain " * 40, encoding="utf-8")
    result = apr_command("imatrix", tiny_gguf, text, "-o", matrix, "--chunk", "32", "--json").json()
    assert result["n_entries"] > 10 and result["n_tokens"] == 32 * result["n_chunks"] and matrix.exists()
    outcome = apr_command("imatrix", tiny_gguf, text, "-o", matrix)
    assert outcome.exit_code == 2 and "exists; give another name, or --force" in outcome.err
    short = apr_command("imatrix", tiny_gguf, text, "-o", tmp_path / "n.gguf", "--chunk", "100000")
    assert short.exit_code == 2 and "give a longer text" in short.err and not (tmp_path / "n.gguf").exists()
