"""May the command line of a contract's check be run? It is parsed as if it were typed, and nothing happens."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from apr.errors import AprError, UsageError

if TYPE_CHECKING:
    from apr.ledger.contract import Check

# what only looks, or writes where it is told to: a contract may come from anywhere, so no check pulls or removes a model
COMMANDS = ("bench", "convert", "eval", "inspect", "parity", "qa", "run", "tensors", "trace", "validate", "why")
_SCRATCH = "{scratch}"


def problem(check: Check) -> str | None:
    """Why a check's command line may not be run; None if it may."""
    from apr import cli

    name, *words = check.argv
    if name not in COMMANDS:
        return f"no command {name!r} for a check; commands: {', '.join(COMMANDS)}"
    options = words[: words.index("--")] if "--" in words else words
    if {"-h", "--help"} & set(options):
        return "--help tests nothing; leave it out"
    parent = click.Context(cli.group, info_name="apr", **cli.group.context_settings)
    command = cli.group.get_command(parent, name)
    assert command is not None
    try:
        context = command.make_context(name, list(words), parent=parent)
        _check_task(name, context.params)
    except click.ClickException as exc:
        return f"apr {name}: {exc.format_message()}"
    except AprError as exc:
        return f"apr {name}: {exc}"
    if not context.params.get("as_json"):
        return f"apr {name}: --json is taken for another option's value; leave it out of the arguments, it is added"
    return _written_elsewhere(name, command, context.params)


def _check_task(name: str, given: dict[str, Any]) -> None:
    """Raise UsageError for a task of `apr eval` that is not there, which click does not know, or that goes on from older answers."""
    if name == "eval":
        from apr.cli import eval as evaluation

        if "out" in evaluation._task(given["task"]).OPTIONS and given["out"] is None:
            message = f"the task {given['task']} would go on from the answers of an earlier run"
            raise UsageError(f"{message}; evidence is made anew: add --out {_SCRATCH}/answers.jsonl")


def _written_elsewhere(name: str, command: click.Command, given: dict[str, Any]) -> str | None:
    """Why a file that the check would write is in the wrong place; None if there is none."""
    for param in command.params:
        if isinstance(param.type, click.Path) and not param.type.exists and given.get(param.name or "") is not None:
            path = PurePosixPath(str(given[param.name or ""]))
            if path.parts[:1] != (_SCRATCH,) or len(path.parts) < 2 or ".." in path.parts:
                return f"apr {name} would write {path}; a check writes into {_SCRATCH} alone: {_SCRATCH}/{path.name}"
    return None
