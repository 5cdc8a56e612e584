"""Prompts as a command gets them: one as an argument, an option or standard input; many as a file of JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from apr.errors import UsageError

_KEYS = {"prompt", "messages", "id"}
_EXPECTED = 'an object with "prompt" or "messages", and an "id" if you like'


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file of prompts.

    where:   the file and the line's number, for errors
    prompt:  a text, or a conversation of role and content
    id:      its name in the results; None if it has none
    """

    where: str
    prompt: str | list[dict[str, Any]]
    id: str | int | None


def one(argument: str | None, option: str | None) -> str:
    """The prompt, from wherever it was given. Raises click.UsageError if it is missing, given twice, or no text."""
    context = click.get_current_context()
    if argument is not None and option is not None:
        raise click.UsageError("the prompt is given twice, as an argument and with --prompt; leave one out", context)
    text = option if option is not None else argument
    if text is None:
        if sys.stdin.isatty():
            raise click.UsageError(
                f'no prompt: give it as an argument ({context.command_path} MODEL "…"), with --prompt, or on standard input',
                context,
            )
        try:
            text = sys.stdin.read().removesuffix("\n")  # the line break that echo adds is nobody's prompt
        except UnicodeDecodeError as exc:
            raise click.UsageError(f"standard input is not UTF-8: {exc}", context) from exc
    if not text.strip():
        raise click.UsageError("the prompt is empty; give it some text", context)
    if _has_surrogate(text):  # how Python passes on bytes that are no text
        raise click.UsageError("the prompt is not UTF-8; check the terminal's encoding (LANG)", context)
    return text


def many(path: Path) -> list[Line]:
    """The prompts of a file of JSON lines; empty lines are skipped, and - is standard input.

    Raises UsageError that names the file and the line.
    """
    if str(path) == "-":
        name, lines = "standard input", list(_lines("standard input", sys.stdin.buffer))
    else:
        name = str(path)
        with path.open("rb") as file:
            lines = list(_lines(name, file))
    if not lines:
        raise UsageError(f"{name}: no prompt in it; expected {_EXPECTED} on each line")
    return lines


def _lines(name: str, file: Iterable[bytes]) -> Iterator[Line]:
    # split as bytes, at \n only: a JSON string may hold U+2028, at which text is split too
    for number, data in enumerate(file, start=1):
        if number == 1:
            data = data.removeprefix(b"\xef\xbb\xbf")
        if data.strip():
            yield _line(f"{name}: line {number}", data.rstrip())


def _line(where: str, data: bytes) -> Line:
    value = _parsed(where, data)
    if not isinstance(value, dict):
        raise UsageError(f"{where}: found {_kind(value)}, expected {_EXPECTED}")
    unknown = sorted(value.keys() - _KEYS)
    if unknown:
        raise UsageError(f"{where}: found the key {unknown[0]!r}, expected {_EXPECTED}")
    if ("prompt" in value) == ("messages" in value):
        found = 'both "prompt" and "messages"' if "prompt" in value else 'neither "prompt" nor "messages"'
        raise UsageError(f"{where}: found {found}, expected one of them")
    name = value.get("id")
    if name is not None and (isinstance(name, bool) or not isinstance(name, str | int)):
        raise UsageError(f'{where}: "id" is {_kind(name)}, expected a string or an integer')
    if "messages" in value:
        return Line(where, _messages(where, value["messages"]), name)
    prompt = _string(where, '"prompt"', value["prompt"])
    if not prompt.strip():
        raise UsageError(f"{where}: the prompt is empty; give it some text")
    return Line(where, prompt, name)


def _parsed(where: str, data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_without_twins)
    except UnicodeDecodeError as exc:
        raise UsageError(f"{where}: byte {exc.start + 1} is not UTF-8, expected {_EXPECTED}") from exc
    except json.JSONDecodeError as exc:
        raise UsageError(f"{where}, column {exc.colno}: not JSON ({exc.msg}), expected {_EXPECTED}") from exc
    except (ValueError, RecursionError) as exc:  # a key twice, a number of a million digits, brackets without end
        raise UsageError(f"{where}: {exc}; expected {_EXPECTED}") from exc


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        twin = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {twin!r} stands twice")
    return made


def _messages(where: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        found = "an empty list" if value == [] else _kind(value)
        raise UsageError(f'{where}: "messages" is {found}, expected a list of objects with "role" and "content"')
    for number, message in enumerate(value, start=1):
        if not isinstance(message, dict):
            raise UsageError(
                f'{where}: message {number} is {_kind(message)}, expected an object with "role" and "content"'
            )
        for key in ("role", "content"):
            if key not in message:
                raise UsageError(f'{where}: message {number} has no "{key}", expected "role" and "content"')
            _string(where, f'"{key}" of message {number}', message[key])
    return value


def _string(where: str, what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where}: {what} is {_kind(value)}, expected a string")
    if _has_surrogate(value):
        raise UsageError(f"{where}: {what} holds half a surrogate pair, which is no character; write both halves")
    return value


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _kind(value: Any) -> str:
    """What a JSON value is, for a message."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return kinds[type(value)]
