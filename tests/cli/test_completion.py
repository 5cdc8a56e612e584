"""`apr completion`: the scripts, and what they are answered."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import BashComplete

from apr.cli import group


def complete(words: str, incomplete: str) -> list[tuple[str, str]]:
    found = BashComplete(group, {}, "apr", "_APR_COMPLETE").get_completions(words.split(), incomplete)
    return [(item.type, item.value) for item in found]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(apr_command: Any, shell: str) -> None:
    result = apr_command("completion", shell, "--json").json()
    assert result["shell"] == shell and "_APR_COMPLETE" in result["script"]
    assert apr_command("completion", shell).out == result["script"] + "\n"


def test_commands_aliases_files_options_and_engines_complete() -> None:
    assert complete("", "ins") == [("plain", "inspect")]
    assert complete("run", "smo") == [("plain", "smollm2")]
    assert complete("run", "./x") == [("file", "./x")]
    assert ("plain", "--max-tokens") in complete("run smollm2", "--max")
    assert ("plain", "native") in complete("run smollm2 --engine", "n")
    assert complete("rm", "smo") == []  # nothing is in the cache


def test_bash_completes_a_name_with_a_colon(apr_command: Any, tmp_path: Path) -> None:
    program = tmp_path / "apr"
    program.write_text('#!/bin/sh\nprintf "%s" "$COMP_WORDS" > "$0.words"\necho plain,qwen2.5-coder:0.5b\n')
    program.chmod(0o755)
    script = apr_command("completion", "bash").out + (
        f'COMP_WORDS=({program} run qwen2.5-coder : 0); COMP_CWORD=4; COMP_WORDBREAKS=" :"\n'
        f'_apr_completion {program}; echo "${{COMPREPLY[@]}}"\n'
    )
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "0.5b\n"
    assert (tmp_path / "apr.words").read_text().splitlines()[1:] == ["run", "qwen2.5-coder:0"]


def test_engines_complete_behind_a_model() -> None:
    assert ("plain", "./x.gguf@llama-cpp") in complete("why ./a.gguf", "./x.gguf@")
    assert complete("run", "smollm2@nu") == [("plain", "smollm2@numpy")]
    assert complete("trace", "./x@opena") == [("file", "./x@opena")]
