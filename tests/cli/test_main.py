"""What holds for every command: help, exit codes, errors as JSON, imports, hostile files."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest

import apr
import tiny
from apr import cli, hub
from apr.errors import InternalError
from schema_check import errors_in

COMMANDS = ("chat", "completion", "convert", "inspect", "list", "pull", "rm", "run", "tensors", "validate")
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202egnp\x9b31m"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(apr_command: Any, name: str) -> None:
    outcome = apr_command(name, "--help")
    assert (outcome.exit_code == 0 and f"apr {name} " in outcome.out.replace("Usage: apr", "")) or name == "list"
    assert "--json" in outcome.out


def test_the_commands_are_the_documented_ones(apr_command: Any) -> None:
    outcome = apr_command("--help")
    assert all(f"\n  {name} " in outcome.out for name in COMMANDS)
    assert all(text in " ".join(outcome.out.split()) for text in cli.EXIT_CODES.values())


def test_version(apr_command: Any) -> None:
    assert apr_command("--version").out == f"apr, version {apr.__version__}\n"


def test_a_near_miss_is_named(apr_command: Any) -> None:
    outcome = apr_command("inspct", "--json")
    assert outcome.exit_code == 2 and "Did you mean 'inspect'?" in outcome.err
    assert outcome.json()["code"] == "usage"


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (InternalError("planted"), 4, "internal"),
        (ValueError("planted"), 4, "internal"),
        (MemoryError(), 4, "out-of-memory"),
        (PermissionError(13, "Permission denied", "x"), 2, "system"),
    ],
)
def test_whatever_happens_has_an_exit_code_and_one_object(
    apr_command: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, exit_code: int, code: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(hub, "cached", fail)
    outcome = apr_command("list", "--json")
    failure = outcome.json()
    assert (outcome.exit_code, failure["exit_code"], failure["code"]) == (exit_code, exit_code, code)
    assert "Traceback" not in outcome.err


def test_a_traceback_only_on_request(apr_command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "cached", lambda: 1 // 0)
    assert "APR_DEBUG=1" in apr_command("list").err
    monkeypatch.setenv("APR_DEBUG", "1")
    assert "Traceback" in apr_command("list").err


def test_help_imports_neither_numpy_nor_other_heavy_libraries() -> None:
    code = (
        "import sys; from apr.cli import main; main(['--help']); "
        "print([m for m in ('numpy', 'rich', 'jinja2', 'pydantic', 'huggingface_hub', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_closed_pipe_ends_quietly(tiny_gguf: Path) -> None:
    # unbuffered, so that the second write meets the closed pipe whatever the size of a pipe's buffer
    code = f"import sys; from apr.cli import main; sys.exit(main(['tensors', {str(tiny_gguf)!r}]))"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    said = child.stderr.read()
    child.stderr.close()
    assert (child.wait(), said) == (0, b"")


def test_a_stream_that_cannot_show_a_character_gets_its_escape(
    damaged_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    assert cli.main(["validate", str(damaged_gguf)]) == 1
    assert b"\\u2717 fail" in raw.getvalue()


@pytest.fixture
def hostile_gguf(tmp_path: Path) -> Path:
    """Escapes in a tensor's name, in metadata and in the template (keys and generated text are tested elsewhere)."""
    path = tmp_path / "hostile.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_string("general.name", f"model {HOSTILE}")
    writer.add_string("general.license", HOSTILE)
    writer.add_string("x.note", HOSTILE)
    writer.add_string("tokenizer.chat_template", f"{{{{ '{HOSTILE}' }}}}{{{{ ''.__class__ }}}}")
    writer.add_tensor(f"evil {HOSTILE}", tiny.np.zeros((4, 4), dtype=tiny.np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    "command", [["inspect", "--metadata"], ["tensors"], ["tensors", "--stats"], ["validate"], ["run", "-p", "hi"]]
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_hostile_file_sends_no_escapes(
    apr_command: Any, hostile_gguf: Path, command: list[str], form: list[str]
) -> None:
    outcome = apr_command(command[0], hostile_gguf, *command[1:], *form)
    everything = outcome.out + outcome.err
    assert outcome.exit_code == {"inspect": 0, "tensors": 0, "validate": 1, "run": 3}[command[0]], everything
    assert "x1b]0;owned" in everything or "u001b]0;owned" in everything or command[0] not in ("inspect", "tensors")
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(everything)


def test_a_hostile_name_of_a_file_sends_no_escapes(apr_command: Any, tmp_path: Path) -> None:
    path = tmp_path / f"a{HOSTILE}.gguf"
    path.write_bytes(b"GGUFxxxx")
    outcome = apr_command("inspect", path, "--json")
    assert outcome.exit_code == 3 and not {"\x1b", "\x9b", "\u202e"} & set(outcome.out + outcome.err)
    assert outcome.json()["path"] == str(path)


def test_the_schema_checker_sees_defects() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert errors_in({"a": 1}, schema) == []
    assert all(errors_in(wrong, schema) for wrong in ({}, {"a": "1"}, {"a": 1, "b": 2}, {"a": True}))
    assert errors_in({}, {"unheard-of": 1})


def test_results_are_frozen() -> None:
    from apr.cli import _results

    assert all(k.__dataclass_params__.frozen for k in vars(_results).values() if dataclasses.is_dataclass(k))
