"""Plain data between two processes that do not trust each other: JSON with tags, in messages of a stated length.

Only built-in types pass. An object that claims to be equal to everything is no plain data, and so proves nothing.
Nothing but the standard library is imported: this runs in processes that have nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

MAX_MESSAGE_BYTES = 16 << 20
_LENGTH_BYTES = 4


class NotPlain(TypeError):
    """A value that is no plain data."""


def pack(value: Any) -> Any:
    """A value as JSON knows it; what JSON does not know is an object with its type as the only key.

    Raises NotPlain for any other type. A subclass of a built-in type passes as that type.
    """
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value) if type(value) is not kind else value
    if isinstance(value, list):
        return [pack(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [pack(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[pack(key), pack(item)] for key, item in value.items()]}
    if isinstance(value, set | frozenset):
        return {"set": [pack(item) for item in value]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    raise NotPlain(f"a {type(value).__name__} is no plain data")


_UNPACKERS: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda items: tuple(unpack(item) for item in items),
    "dict": lambda pairs: {unpack(key): unpack(item) for key, item in pairs},
    "set": lambda items: {unpack(item) for item in items},
    "bytes": bytes.fromhex,
    "complex": lambda parts: complex(*parts),
}


def unpack(value: Any) -> Any:
    """What `pack` was given, but for subclasses. Raises NotPlain for what `pack` does not write."""
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        kind, content = next(iter(value.items()))
        if kind in _UNPACKERS:
            try:
                return _UNPACKERS[kind](content)
            except (TypeError, ValueError) as exc:
                raise NotPlain(f"a damaged {kind}: {exc}") from exc
    raise NotPlain("an object without a known type")


def send(descriptor: int, message: Any) -> None:
    """Write a message of plain JSON. Raises OSError when nobody reads, NotPlain when it is too long."""
    data = json.dumps(message).encode("ascii")
    if len(data) > MAX_MESSAGE_BYTES:
        raise NotPlain(f"a value of {len(data)} bytes, of which at most {MAX_MESSAGE_BYTES} pass")
    view = memoryview(len(data).to_bytes(_LENGTH_BYTES, "little") + data)
    while view:
        view = view[os.write(descriptor, view) :]


def receive(descriptor: int) -> Any:
    """The next message. Raises EOFError when the other side has gone, NotPlain for what is no message."""
    length = int.from_bytes(_read(descriptor, _LENGTH_BYTES), "little")
    if length > MAX_MESSAGE_BYTES:
        raise NotPlain(f"a message of {length} bytes, of which at most {MAX_MESSAGE_BYTES} pass")
    try:
        return json.loads(_read(descriptor, length))
    except (ValueError, RecursionError) as exc:
        raise NotPlain(f"a message that is no JSON: {exc}") from exc


def _read(descriptor: int, n_bytes: int) -> bytes:
    parts = []
    while n_bytes:
        part = os.read(descriptor, min(n_bytes, 1 << 16))
        if not part:
            raise EOFError("the other side has gone")
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)
