"""JSON over HTTP to a model server: one request at a time, with a time limit for all of it, a size limit, and retries.

Requests are retried only where the same request may do better: the server is busy or starting (408, 429, 5xx), or the
connection broke. A time-out is not: the server may still be at work on the first one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any, Self

from apr.errors import EngineError, FormatError
from apr.formats._json import parse_object, shorten

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
MAX_ANSWER_BYTES = 64 << 20  # a token with five alternatives takes under 1 kB: an answer of 65,000 tokens
MAX_COMPLAINT_BYTES = 64 << 10
MAX_RETRY_AFTER_S = 30.0
_BUSY = frozenset({408, 429, *range(500, 600)})


class Refused(EngineError):
    """The server does not do what was asked (HTTP 4xx). status: its code; complaint: its words."""

    def __init__(self, message: str, *, status: int, complaint: str) -> None:
        self.status = status
        self.complaint = complaint
        super().__init__(message)


class _Again(Exception):
    """The request failed in a way that another attempt may not. after_s: the pause that the server asks for."""

    def __init__(self, message: str, *, after_s: float = 0.0) -> None:
        self.after_s = after_s
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class JsonClient:
    """A server's interface.

    base:       URL that routes are appended to, without a slash at its end
    secret:     sent as a bearer token if it is not empty; never part of a message
    timeout_s:  of a request, from the connection to the last byte
    pauses_s:   before each further attempt
    """

    base: str
    secret: str
    timeout_s: float
    pauses_s: Sequence[float]

    def get(self, route: str) -> dict[str, Any]:
        """The answer to a GET. Raises EngineError, Refused."""
        return self._parsed(route, self._asked(route, None))

    def post(self, route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a POST of JSON. Raises EngineError, Refused."""
        return self._parsed(route, self._asked(route, json.dumps(body).encode()))

    def _asked(self, route: str, body: bytes | None) -> bytes:
        for attempt, pause_s in enumerate((*self.pauses_s, None), start=1):
            try:
                return self._once(route, body)
            except _Again as exc:
                if pause_s is None:
                    raise EngineError(f"{exc}, and so {attempt} times; try again when the server is well") from exc
                logger.info("%s; trying again", exc)
                time.sleep(max(pause_s, exc.after_s))
        raise AssertionError("the last attempt returns or raises")

    def _once(self, route: str, body: bytes | None) -> bytes:
        request = urllib.request.Request(
            self.base + route, data=body, headers={"User-Agent": "apr", "Accept-Encoding": "identity"}
        )
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if self.secret:
            request.add_unredirected_header("Authorization", f"Bearer {self.secret}")
        with _Clock(self.timeout_s) as clock:
            try:
                with _opener(request.type, clock).open(request, timeout=CONNECT_S) as response:
                    data: bytes = response.read(MAX_ANSWER_BYTES + 1)
                    n_missing = response.length or 0
            except urllib.error.HTTPError as exc:
                raise self._refusal(route, exc) from exc
            except (OSError, http.client.HTTPException) as exc:
                raise self._failure(exc, clock) from exc
            if clock.is_over:
                raise self._failure(TimeoutError(), clock)
        if len(data) > MAX_ANSWER_BYTES:
            raise EngineError(
                f"{self.base}{route}: the answer is over the limit of {MAX_ANSWER_BYTES} bytes; ask for fewer tokens"
            )
        if n_missing:
            raise _Again(f"{self.base}{route}: the answer was cut off {n_missing} bytes before its end")
        return data

    def _failure(self, exc: Exception, clock: _Clock) -> Exception:
        """What a broken connection is to the user."""
        if clock.is_over:
            return EngineError(
                f"{self.base} did not finish its answer within {self.timeout_s:g} s; ask for fewer tokens, or look at the server's load"
            )
        reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
        if isinstance(reason, TimeoutError):
            return EngineError(f"{self.base} gave no connection within {CONNECT_S:g} s; is the address right?")
        if isinstance(reason, ssl.SSLError):
            return EngineError(f"{self.base}: no secure connection ({reason}); is it a server of https?")
        broke = isinstance(reason, ConnectionError | http.client.HTTPException)
        if broke and not isinstance(reason, ConnectionRefusedError):
            return _Again(f"{self.base}: the connection broke ({reason or type(reason).__name__})")
        return EngineError(f"{self.base} cannot be reached ({reason}); start the server, or correct the address")

    def _refusal(self, route: str, error: urllib.error.HTTPError) -> Exception:
        """What an HTTP status other than success is to the user."""
        with error:
            complaint = self._without_secret(_complaint(error))
        said = f"{self.base}{route} answered {error.code} {error.reason or ''}".rstrip()
        said = self._without_secret(said) + (f": {complaint}" if complaint else "")
        if error.code in _BUSY:
            return _Again(said, after_s=_retry_after_s(error.headers))
        if 300 <= error.code < 400:
            target = shorten(error.headers.get("Location", "nowhere"))
            return EngineError(
                f"{said}, a redirection to {target}; redirections are not followed, give the address itself"
            )
        if error.code in (401, 403):
            said += "; set APR_OPENAI_API_KEY to a key of that server (it is sent over https and to this machine only)"
        return Refused(said, status=error.code, complaint=complaint)

    def _without_secret(self, text: str) -> str:
        return text.replace(self.secret, "***") if self.secret else text

    def _parsed(self, route: str, data: bytes) -> dict[str, Any]:
        try:
            return parse_object(Path(self.base.partition("://")[2] + route), data, what="the answer")
        except FormatError as exc:
            raise EngineError(
                f"{self._without_secret(str(exc))}; is an OpenAI-compatible server at {self.base}?"
            ) from exc


class _Clock:
    """Hangs up when the time is over, whatever the other side does: a socket's own limit starts anew with each byte."""

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def watch(self, connected: socket.socket) -> None:
        """The connection to end. From here on only this clock limits it."""
        connected.settimeout(None)
        self._socket = connected
        if self.is_over:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                # the plain method: that of an SSL socket takes its state from under a read in another thread
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A prompt is not sent to where somebody points."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        del req, fp, code, msg, headers, newurl


def _opener(scheme: str, clock: _Clock) -> urllib.request.OpenerDirector:
    """How to connect: to a private address directly, by https through the proxy that the environment names."""

    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            clock.watch(self.sock)

    class Secure(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            clock.watch(self.sock)

    class OpenPlain(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, req)

    class OpenSecure(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Secure, req, context=ssl.create_default_context())

    proxies = urllib.request.ProxyHandler({} if scheme == "http" else None)
    return urllib.request.build_opener(proxies, OpenPlain, OpenSecure, _NoRedirect)


def _complaint(error: urllib.error.HTTPError) -> str:
    """What the server says is wrong, on one line; its several ways to say it are OpenAI's, FastAPI's and Ollama's."""
    try:
        data = error.read(MAX_COMPLAINT_BYTES)
    except (OSError, http.client.HTTPException):
        return ""
    try:
        told: Any = parse_object(Path("complaint"), data, what="it")
        told = told.get("error", told.get("detail", told.get("message", told)))
        told = told.get("message", told) if isinstance(told, dict) else told
    except FormatError:
        told = data.decode("utf-8", "replace")
    return " ".join(str(told).split())[:300]


def _retry_after_s(headers: Message) -> float:
    asked = headers.get("Retry-After", "")
    return min(float(asked), MAX_RETRY_AFTER_S) if asked.isascii() and asked.isdigit() else 0.0
