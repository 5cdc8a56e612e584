"""A run record read back from a file, as hostile input: every field there, of its type, and at one with the others."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal

from apr.engines._record import RunRecord
from apr.errors import AprError, BadMetadata, HostileFile
from apr.formats._json import MAX_BYTES, parse_object, shorten

SCHEMA = "apr.run/1"
# floats that JSON has as null, because they are not finite: what they were
_NOT_FINITE = {("Step", "margin"): math.inf, ("Step", "logprob"): math.nan}


def read_record(path: Path) -> RunRecord:
    """The record in a file that `apr run --record` or `--json` wrote. Raises FormatError, HostileFile among them."""
    try:
        if not path.is_file():
            raise HostileFile(path, "is no plain file; expected a run record, as `apr run --record FILE` writes it")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise HostileFile(path, f"cannot be read ({exc.strerror or exc})") from exc
    found = parse_object(path, data, what="the run record")
    if found.get("schema") != SCHEMA:
        raise BadMetadata(
            path, f"has the schema {shorten(found.get('schema'))}, expected {SCHEMA!r}: a record of `apr run --record`"
        )
    record: RunRecord = _Reader(path).dataclass(RunRecord, found, "")
    _check(path, record)
    return record


def _check(path: Path, record: RunRecord) -> None:
    """Raise BadMetadata for a record that contradicts itself: it was changed after it was written."""
    chosen = tuple(step.token_id for step in record.steps)
    if chosen != record.output_token_ids:
        raise BadMetadata(
            path,
            f"output_token_ids are {shorten(record.output_token_ids)} and those of its steps {shorten(chosen)}; the record was changed",
        )
    if not record.prompt_token_ids or min(record.prompt_token_ids + chosen) < 0:
        raise BadMetadata(path, "the prompt has no token ids, or an id is below zero; the record was changed")
    if len(chosen) > record.max_tokens:
        raise BadMetadata(path, f"has {len(chosen)} tokens of at most {record.max_tokens}; the record was changed")


class _Reader:
    """JSON values to what the fields of the dataclasses say."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hints: dict[type[Any], dict[str, Any]] = {}  # a record has thousands of steps

    def dataclass(self, kind: type[Any], value: Any, where: str) -> Any:
        """An object as a dataclass, no field missing, none too many."""
        if not isinstance(value, dict):
            raise self._wrong(where or "the record", value, "an object")
        if kind not in self._hints:
            self._hints[kind] = typing.get_type_hints(kind)
        hints = self._hints[kind]
        names = [field.name for field in dataclasses.fields(kind)]
        prefix = f"{where}." if where else ""
        if missing := [name for name in names if name not in value]:
            raise BadMetadata(
                self._path, f"has no {', '.join(prefix + n for n in missing)}; an older apr wrote it: run it again"
            )
        if unknown := [name for name in value if name not in names]:
            shown = ", ".join(shorten(prefix + name) for name in unknown[:8])
            raise BadMetadata(
                self._path, f"has {shown}, which this version does not know; compare with the apr that wrote it"
            )
        read = {}
        for name in names:
            stands_for = _NOT_FINITE.get((kind.__name__, name))
            is_null = value[name] is None and stands_for is not None
            read[name] = stands_for if is_null else self.typed(hints[name], value[name], prefix + name)
        try:
            return kind(**read)
        except AprError as exc:  # what the dataclass itself does not allow
            raise BadMetadata(self._path, f"{where}: {exc}") from exc

    def typed(self, hint: Any, value: Any, where: str) -> Any:
        """A value of a field's type."""
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin in (types.UnionType, typing.Union):
            return self._one_of(args, value, where)
        if origin is Literal:
            if value not in args:
                raise self._wrong(where, value, f"one of {', '.join(map(str, args))}")
            return value
        if origin is tuple:
            return self._tuple(args, value, where)
        if origin is dict:
            if not isinstance(value, dict):
                raise self._wrong(where, value, "an object")
            return {key: self.typed(args[1], item, f"{where}.{key}") for key, item in value.items()}
        if dataclasses.is_dataclass(hint):
            return self.dataclass(typing.cast("type[Any]", hint), value, where)
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, hint) or isinstance(value, bool):
            raise self._wrong(where, value, {int: "an integer", float: "a number", str: "text"}[hint])
        return value

    def _one_of(self, args: tuple[Any, ...], value: Any, where: str) -> Any:
        """A value of the first type that takes it; the error of the last."""
        if value is None and type(None) in args:
            return None
        *others, last = [arg for arg in args if arg is not type(None)]
        for arg in others:
            with contextlib.suppress(BadMetadata):
                return self.typed(arg, value, where)
        return self.typed(last, value, where)

    def _tuple(self, args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise self._wrong(where, value, "a list")
        if args[-1] is Ellipsis:
            return tuple(self.typed(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(value) != len(args):
            raise self._wrong(where, value, f"{len(args)} values")
        return tuple(
            self.typed(arg, item, f"{where}[{i}]") for i, (arg, item) in enumerate(zip(args, value, strict=True))
        )

    def _wrong(self, where: str, value: Any, expected: str) -> BadMetadata:
        return BadMetadata(self._path, f"{where} is {shorten(value)}, expected {expected}; the record is damaged")
