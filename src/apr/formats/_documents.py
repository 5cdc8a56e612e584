"""Side files of a model in a folder: config, tokenizer, chat template. Read with limits, written whole or not at all.

Their names are a closed list, in both directions: a name out of some model's metadata never becomes a path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apr import _atomic
from apr.errors import BadString, HostileFile, LimitExceeded, UnsupportedError
from apr.formats import _json

# name and the most bytes that we read of it
JSON_NAMES = {
    "config.json": 1 << 20,
    "generation_config.json": 1 << 20,
    "tokenizer_config.json": 16 << 20,  # Gemma 3 lists 6,000 added tokens in 1.2 MB
    "special_tokens_map.json": 1 << 20,
    "added_tokens.json": 16 << 20,
}
TEXT_NAMES = {"tokenizer.json": 256 << 20, "chat_template.jinja": 1 << 20}


def read_documents(folder: Path) -> dict[str, Any]:
    """The side files that are there, by name: JSON as a dict, text as it is, line ends untouched.

    Raises LimitExceeded, BadString (not UTF-8), HostileFile (no regular file), and what `_json.parse_object` raises.
    """
    documents: dict[str, Any] = {}
    for name, max_bytes in (JSON_NAMES | TEXT_NAMES).items():
        path = folder / name
        if not path.exists() and not path.is_symlink():
            continue
        content = read_limited(path, max_bytes=max_bytes)
        if name in JSON_NAMES:
            documents[name] = _json.parse_object(path, content, what=name)
            continue
        try:
            documents[name] = content.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise BadString(path, f"is not UTF-8 ({exc.reason}); write it again as UTF-8", offset=exc.start) from exc
    return documents


def read_limited(path: Path, *, max_bytes: int) -> bytes:
    """All bytes of a regular file. Raises HostileFile if it is none, LimitExceeded if it has more than `max_bytes`."""
    if not path.is_file():
        raise HostileFile(path, "not a regular file, or a link to nothing; fetch the model again")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise LimitExceeded(
            path, f"has more than {max_bytes} bytes, the limit for a file of this name", offset=max_bytes
        )
    return content


def encode_documents(documents: Mapping[str, Any]) -> dict[str, bytes]:
    """Side files as the bytes to write. Raises UnsupportedError for a name that is not on the list."""
    known = [*JSON_NAMES, *TEXT_NAMES]
    for name in documents:
        if name not in known:
            raise UnsupportedError(f"{_json.shorten(name)} is no side file of a model", known=known)
    return {name: value.encode() if isinstance(value, str) else to_json(value) for name, value in documents.items()}


def to_json(value: Mapping[str, Any]) -> bytes:
    """JSON as transformers writes it: two spaces, UTF-8, a line end. Raises ValueError for NaN and infinity."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_encoded(folder: Path, encoded: Mapping[str, bytes]) -> None:
    """Write each file, whole or not at all."""
    for name, content in encoded.items():
        _atomic.write_bytes(folder / name, content)
