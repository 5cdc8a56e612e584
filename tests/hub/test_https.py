"""Files at URLs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from apr.errors import ChecksumError
from apr.hub import _https
from apr.hub._integrity import NOTHING
from apr.hub._progress import SILENT
from apr.hub._reference import HttpsSource


def source(server: Any, path: str, sha256: str | None) -> HttpsSource:
    return HttpsSource(f"{server.url}{path}", sha256, text=f"{server.url}{path}")


def test_a_digest_in_the_reference_is_kept(server: Any, reply: Any, partial: Path) -> None:
    server.replies["/a/m.gguf"] = reply(b"model")
    good = hashlib.sha256(b"model").hexdigest()
    found = _https.fetch(source(server, "/a/m.gguf", good), partial, NOTHING, progress=SILENT)
    assert found.promised_by == "reference" and found.files[0].name == "m.gguf"
    with pytest.raises(ChecksumError, match="0" * 64):
        _https.fetch(source(server, "/a/m.gguf", "0" * 64), partial, NOTHING, progress=SILENT)


def test_without_a_digest_nobody_vouches_for_the_file(server: Any, reply: Any, partial: Path) -> None:
    server.replies["/m"] = reply(b"model")
    found = _https.fetch(source(server, "/m", None), partial, NOTHING, progress=SILENT)
    assert found.promised_by == "none" and found.files[0].sha256 == hashlib.sha256(b"model").hexdigest()


def test_an_encoded_path_does_not_become_a_path(server: Any, reply: Any, partial: Path) -> None:
    server.replies["/%2e%2e%2f%2e%2e%2fevil"] = reply(b"x")
    [file] = _https.fetch(source(server, "/%2e%2e%2f%2e%2e%2fevil", None), partial, NOTHING, progress=SILENT).files
    assert file.name == "evil" and file.path.parent == partial
