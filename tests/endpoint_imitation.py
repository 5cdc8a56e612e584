"""A model server on this machine that says what a test wants it to say, faults included."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass
class Reply:
    """One answer.

    body:       sent as it is, or as JSON
    announced:  the length that is promised; None for the true one, -1 for none
    fault:      "reset" ends the connection without an answer; "mute" says nothing; "drip" sends a byte now and then
    """

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    fault: str = ""

    def bytes(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Imitation:
    """An HTTP server on 127.0.0.1. Its replies are given in order, the last one for ever; requests are kept."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def address(self) -> str:
        return f"openai://{self.host}/m"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        imitation = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has in the base class
                pass

            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, body: Any) -> None:
                imitation.requests.append((self.path, dict(self.headers), body))
                reply = imitation.replies.pop(0) if len(imitation.replies) > 1 else imitation.replies[0]
                if reply.fault == "reset":
                    # close with a reset, not with an orderly end
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    return
                if reply.fault == "mute":
                    imitation._closing.wait()
                    return
                data = reply.bytes()
                self.send_response(reply.status)
                if reply.announced != -1:
                    self.send_header(
                        "Content-Length", str(reply.announced if reply.announced is not None else len(data))
                    )
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):  # the client may have seen enough
                    self._write(data, reply.fault)

            def _write(self, data: bytes, fault: str) -> None:
                if fault != "drip":
                    self.wfile.write(data)
                    return
                for i in range(len(data)):
                    self.wfile.write(data[i : i + 1])
                    self.wfile.flush()
                    if imitation._closing.wait(0.02):
                        return

        return Handler
