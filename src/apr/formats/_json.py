"""Strict JSON with limits, for the metadata inside model files and for the documents beside them.

Python's own parser does the work; this file closes what it leaves open: the last of two equal keys wins, `NaN` and
`1e999` pass, deep nesting ends in RecursionError, an integer of a million digits in quadratic time (or ValueError),
`"\\ud800"` becomes a string that no file can hold, and `[[],[],[], ...` takes thirty times its size in memory.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from apr.errors import BadMetadata, BadString, DuplicateName, LimitExceeded

MAX_BYTES = 100_000_000  # the largest header that the safetensors format allows; nothing else of ours is larger
MAX_DEPTH = 64
MAX_INT_DIGITS = 20  # 2**64 - 1 has twenty
MAX_VALUES = 4_000_000  # half a million tensors; 64 bytes of Python object each, 256 MB at worst

# brackets, and whole strings, which may hold brackets; possessive, so that no input makes it backtrack
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_LONG_INT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|(?<![\d.eE+-])-?(\d{21,})(?![\d.eE])', re.DOTALL)
_COLON = re.compile(rb"[ \t\r\n]*+:")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

# per byte: what it does to the depth, and whether it matters at all
_STEP = np.zeros(256, np.int64)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1
_IS_MARK = _STEP != 0
_IS_MARK[ord('"')] = True
_CHUNK_BYTES = 1 << 20  # bounds the temporaries of the depth scan


def parse_object(
    path: Path,
    data: bytes,
    *,
    offset: int = 0,
    what: str,
    max_bytes: int = MAX_BYTES,
    max_values: int = MAX_VALUES,
) -> dict[str, Any]:
    """The JSON object that `data` holds, whitespace around it allowed, nothing else.

    offset:  where `data` starts in the file at `path`, for the byte that errors name
    what:    what this is to the user: "header", "config.json"
    Raises   LimitExceeded (size, depth, number of values, digits), BadString (not UTF-8, half a surrogate pair),
             DuplicateName (a key twice in one object), BadMetadata (not JSON, not an object, NaN, infinity).
    """
    if len(data) > max_bytes:
        raise LimitExceeded(path, f"{what} has {len(data)} bytes, the limit is {max_bytes}", offset=offset)
    _check_amount(path, data, offset=offset, what=what, max_values=max_values)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        message = f"{what} is not UTF-8 ({exc.reason}); write it again as UTF-8"
        raise BadString(path, message, offset=offset + exc.start) from exc
    _check_depth(path, data, offset=offset, what=what)
    parser = _Hooks(path, data, offset=offset, what=what)
    try:
        value = json.loads(
            text,
            object_pairs_hook=parser.to_object,
            parse_int=parser.to_int,
            parse_float=parser.to_float,
            parse_constant=parser.refuse_constant,
        )
    except json.JSONDecodeError as exc:
        at = offset + len(text[: exc.pos].encode())
        raise BadMetadata(path, f"{what} is not JSON: {exc.msg}; the file is damaged or cut short", offset=at) from exc
    if not isinstance(value, dict):
        raise BadMetadata(path, f"{what} is a JSON {type(value).__name__}, expected an object", offset=offset)
    if _SURROGATE.search(data):
        _check_surrogates(path, data, offset=offset, what=what)
    return value


def find_key(data: bytes, key: str) -> int:
    """The byte where `key` stands in the outermost object of well-formed JSON, for error messages; 0 if it does not."""
    depth = 0
    for at, token in _tokens(data):
        if token in b"[{":
            depth += 1
        elif token in b"]}":
            depth -= 1
        elif depth == 1 and _COLON.match(data, at + len(token)) and json.loads(token) == key:
            return at
    return 0


def shorten(value: object) -> str:
    """`value` as Python shows it, cut to eighty characters: file contents are hostile, messages are for people."""
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:76] + "...'"


class _Hooks:
    """What the parser calls back; positions are looked for only once something is wrong."""

    def __init__(self, path: Path, data: bytes, *, offset: int, what: str) -> None:
        self.path = path
        self.data = data
        self.offset = offset
        self.what = what

    def to_object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            at, key = _find_duplicate(self.data)
            message = f"{self.what} has the key {shorten(key)} twice in one object; which one counts is not defined"
            raise DuplicateName(self.path, message, offset=self.offset + at)
        return made

    def to_int(self, digits: str) -> float:
        if len(digits.lstrip("-")) > MAX_INT_DIGITS:
            at = next((match.start() for match in _LONG_INT.finditer(self.data) if match[1]), 0)
            message = f"{self.what} has an integer of {len(digits)} digits, the limit is {MAX_INT_DIGITS}"
            raise LimitExceeded(self.path, message, offset=self.offset + at)
        return (
            int(digits) if digits != "-0" else -0.0
        )  # no count is minus zero; a float, so that no reader takes it for one

    def to_float(self, digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            self.refuse_constant(digits)
        return value

    def refuse_constant(self, word: str) -> NoReturn:
        at = max(0, self.data.find(word.encode()))
        message = f"{self.what} holds {shorten(word)}, which is not a finite number; JSON has no other"
        raise BadMetadata(self.path, message, offset=self.offset + at)


def _check_amount(path: Path, data: bytes, *, offset: int, what: str, max_values: int) -> None:
    """Bound the memory of the parsed values, before any is made; commas within strings count too."""
    n_values = data.count(b",") + data.count(b"[") + data.count(b"{")
    if n_values > max_values:
        raise LimitExceeded(path, f"{what} holds about {n_values} values, the limit is {max_values}", offset=offset)


def _check_depth(path: Path, data: bytes, *, offset: int, what: str) -> None:
    """Refuse what would nest too deeply. Exact up to the first syntax error, where the parser stops anyway."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    plain = data.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")  # every quote left opens or closes a string
    depth, is_inside = 0, 0
    for start in range(0, len(plain), _CHUNK_BYTES):
        chunk = np.frombuffer(plain, np.uint8, min(_CHUNK_BYTES, len(plain) - start), start)
        marks = np.flatnonzero(_IS_MARK[chunk])
        if not marks.size:
            continue
        kinds = chunk[marks]
        inside = (np.cumsum(kinds == ord('"')) + is_inside) & 1
        depths = np.cumsum(np.where(inside, 0, _STEP[kinds])) + depth
        if depths.max() > MAX_DEPTH:
            at = offset + start + int(marks[np.argmax(depths > MAX_DEPTH)])
            raise LimitExceeded(path, f"{what} nests deeper than {MAX_DEPTH} levels", offset=at)
        depth, is_inside = int(depths[-1]), int(inside[-1])


def _check_surrogates(path: Path, data: bytes, *, offset: int, what: str) -> None:
    """Refuse half of a surrogate pair: it is no character, and no UTF-8 file can hold it."""
    for at, token in _tokens(data):
        if _SURROGATE.search(token):
            try:
                json.loads(token).encode()
            except UnicodeEncodeError as exc:
                message = f"{what} has half a surrogate pair in {shorten(token)}, which is no character"
                raise BadString(path, message, offset=offset + at) from exc


def _find_duplicate(data: bytes) -> tuple[int, str]:
    """Where, and which: the first key that stands twice in one object of well-formed JSON."""
    open_objects: list[set[str]] = []
    for at, token in _tokens(data):
        if token in b"[{":
            open_objects.append(set())
        elif token in b"]}":
            open_objects.pop()
        elif _COLON.match(data, at + len(token)):
            key = json.loads(token)
            if key in open_objects[-1]:
                return at, key
            open_objects[-1].add(key)
    raise AssertionError("the parser saw a key twice")


def _tokens(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Brackets and whole strings of JSON text, with their positions."""
    return ((match.start(), match[0]) for match in _TOKEN.finditer(data))
