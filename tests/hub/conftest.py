"""A hub, a package index and a file server on this machine: everything a source meets, and everything that can go wrong."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from apr.hub import _http, _pip


@dataclass
class Reply:
    """What the server says at one path. cuts: after how many bytes it hangs up, one per request, then never."""

    body: bytes = b""
    content_type: str = "application/octet-stream"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    serves_ranges: bool = True
    is_mute: bool = False


class Loopback:
    """An HTTP server on 127.0.0.1. replies: by path; requests: (path, headers) as they came; n_bytes: bodies sent, by path."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.n_bytes: dict[str, int] = {}
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add_package(
        self, name: str, version: str, wheel: bytes, *, form: str = "json", sha256: str | None = None
    ) -> str:
        """Publish a wheel on a simple index; return its path. sha256: the promised digest, the true one if not given."""
        file_name = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        path = f"/files/{file_name}"
        digest = hashlib.sha256(wheel).hexdigest() if sha256 is None else sha256
        self.replies[path] = Reply(wheel)
        if form == "json":
            entry = {"filename": file_name, "url": f"../..{path}", "hashes": {"sha256": digest}, "size": len(wheel)}
            page = Reply(json.dumps({"files": [entry]}).encode(), "application/vnd.pypi.simple.v1+json")
        else:
            page = Reply(f'<a href="../..{path}#sha256={digest}">{file_name}</a>'.encode(), "text/html")
        self.replies[f"/simple/{name}/"] = page
        return path

    def add_repository(self, repo: str, files: dict[str, bytes], *, lfs: set[str], sha256: str | None = None) -> None:
        """Publish a hub repository at one commit. lfs: the files with a SHA-256; sha256: a wrong one to promise."""
        commit = "c" * 40
        siblings = [_sibling(name, content, name in lfs, sha256) for name, content in files.items()]
        info = Reply(json.dumps({"id": repo, "sha": commit, "siblings": siblings}).encode(), "application/json")
        self.replies[f"/api/models/{repo}?blobs=True"] = info
        self.replies[f"/api/models/{repo}?blobs=true"] = info
        for name, content in files.items():
            self.replies[f"/{repo}/resolve/{commit}/{name}"] = Reply(content)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has in the base class
                pass

            def do_GET(self) -> None:
                loopback.requests.append((self.path, dict(self.headers)))
                reply = loopback.replies.get(self.path, Reply(b"not here", status=404))
                if reply.is_mute:
                    loopback.closing.wait()
                    return
                self._answer(reply)

            def _answer(self, reply: Reply) -> None:
                body, status, headers = reply.body, reply.status, dict(reply.headers)
                asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                unchanged = self.headers.get("If-Range") in {None, headers.get("ETag")}
                if asked and reply.serves_ranges and unchanged and status == 200:
                    start = int(asked[1])
                    headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                    status, body = (206, body[start:]) if start < len(body) else (416, b"")
                self.send_response(status)
                for name, value in {
                    "Content-Type": reply.content_type,
                    "Content-Length": str(len(body)),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                if reply.cuts:
                    body = body[: reply.cuts.pop(0)]
                with contextlib.suppress(ConnectionError):  # the client may have seen enough
                    self.wfile.write(body)
                loopback.n_bytes[self.path] = loopback.n_bytes.get(self.path, 0) + len(body)

        return Handler


def _sibling(name: str, content: bytes, is_lfs: bool, sha256: str | None) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": blob}
    if is_lfs:
        digest = sha256 or hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 130}
    return entry


@dataclass
class Counter:
    """A display that remembers. stop_after: bytes after which the user presses Ctrl-C, or None."""

    stop_after: int | None = None
    started: list[tuple[str, int | None]] = field(default_factory=list)
    n_bytes: int = 0
    n_finished: int = 0

    def start(self, what: str, total_bytes: int | None) -> None:
        self.started.append((what, total_bytes))
        self.n_bytes = 0

    def advance(self, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        if self.stop_after is not None and self.n_bytes >= self.stop_after:
            raise KeyboardInterrupt

    def finish(self) -> None:
        self.n_finished += 1


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty APR_HOME; no index, hub cache or switch of the machine is seen."""
    from huggingface_hub import constants

    for name in ("APR_OFFLINE", "HF_HUB_OFFLINE", "HF_HUB_ETAG_TIMEOUT", "HF_TOKEN", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("apr.hub._environment.pip_variables", lambda: {"no-index": "1"})
    monkeypatch.setattr(_pip, "_configured", dict)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("APR_HOME", str(tmp_path / "home"))
    _http.forget_unreachable()
    return tmp_path / "home"


@pytest.fixture
def server() -> Iterator[Loopback]:
    """A running server."""
    loopback = Loopback()
    yield loopback
    loopback.close()


@pytest.fixture
def index(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """The server, as the package index that pip is configured with."""
    monkeypatch.setattr("apr.hub._environment.pip_variables", lambda: {"index-url": f"{server.url}/simple"})
    return server


@pytest.fixture
def hub(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """The server, as the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    return server


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture
def counter() -> type[Counter]:
    return Counter


@pytest.fixture
def wheel_of() -> Callable[[dict[str, bytes]], bytes]:
    """Makes the bytes of a wheel from its members."""

    def make(members: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    return make


@pytest.fixture
def closed_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to look up a name or to connect fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.create_connection", refuse)


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    """A folder for transfers in progress."""
    folder = tmp_path / "partial"
    folder.mkdir()
    return folder
