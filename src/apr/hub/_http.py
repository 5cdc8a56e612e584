"""Requests over HTTPS: which URLs are allowed, redirects, time limits, and errors in words.

http:// is refused, but for this machine itself (127.0.0.1, ::1, localhost), where nobody stands in between.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import dataclass, field
from email.message import Message
from functools import cache
from typing import IO, TypeVar
from urllib.parse import urlsplit, urlunsplit

from apr.errors import HubError, OfflineError

T = TypeVar("T")

MAX_REDIRECTS = 5
STALL_S = 20.0  # a transfer that delivers nothing for so long is taken as cut, and resumed
_HTTP_NOT_SATISFIABLE = 416

_unreachable: dict[str, str] = {}


class RangeRefused(HubError):
    """The server has no bytes where the resumed transfer asked for them (HTTP 416)."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A file at a URL.

    secrets:  headers for the first host only, never sent to where it redirects (Authorization)
    cafile:   certificates to trust besides the system's, or None
    """

    url: str
    secrets: Mapping[str, str] = field(default_factory=dict)
    cafile: str | None = None

    @property
    def host(self) -> str:
        """Host and port, for messages; no user name, no password."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


def without_user(url: str) -> str:
    """A URL that can be shown: user name, password, query and fragment left out."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_loopback(url: str) -> bool:
    """Whether a URL points at this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_url(url: str, *, came_from: str | None = None) -> None:
    """Refuse a URL that is not safe to open.

    came_from:  the URL that redirects or links to it; a page from elsewhere must not point at this machine over http
    Raises      HubError.
    """
    scheme = urlsplit(url).scheme
    if scheme == "https":
        return
    if scheme == "http" and is_loopback(url) and (came_from is None or is_loopback(came_from)):
        return
    via = f"{without_user(came_from)} points to it: " if came_from else ""
    raise HubError(f"{without_user(url)}: {via}{scheme}:// is refused; only https:// is fetched")


@contextlib.contextmanager
def opened(remote: Remote, *, headers: Mapping[str, str], timeout_s: float) -> Iterator[http.client.HTTPResponse]:
    """The response to a GET, after redirects. timeout_s is for the connection and for each read.

    Raises OfflineError if no server answers, RangeRefused for HTTP 416, HubError for any other refusal.
    """
    check_url(remote.url)
    refuse_unreachable(remote.host)
    request = urllib.request.Request(
        remote.url, headers={"User-Agent": "apr", "Accept-Encoding": "identity", **headers}
    )
    for name, value in remote.secrets.items():
        request.add_unredirected_header(name, value)
    try:
        response = _opener(remote.cafile).open(request, timeout=timeout_s)
    except urllib.error.HTTPError as exc:
        exc.close()
        message = f"{remote.host} answered {exc.code} {exc.reason}".splitlines()[0]
        raise RangeRefused(message) if exc.code == _HTTP_NOT_SATISFIABLE else HubError(message) from exc
    except urllib.error.URLError as exc:
        raise OfflineError(f"{remote.host} cannot be reached: {exc.reason}") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise OfflineError(f"{remote.host} gave no answer: {exc or type(exc).__name__}") from exc
    with response:
        yield response


def within(seconds: float, host: str, ask: Callable[[], T]) -> T:
    """What `ask` returns, if it does so in time; a host that does not answer is not asked again by this process.

    A socket's own time limit covers neither the name look-up nor several dead addresses in a row; this one does.

    Raises OfflineError if it takes longer, and what `ask` raises.
    """
    refuse_unreachable(host)
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as exc:  # noqa: BLE001 - it is handed over, and raised by the thread that waits
            answer.set_exception(exc)

    threading.Thread(target=work, daemon=True, name=f"asking {host}").start()
    try:
        return answer.result(timeout=seconds)
    except NoAnswer as exc:
        _unreachable[host] = f"{host} gave no answer in {seconds:g} s"
        raise OfflineError(_unreachable[host]) from exc
    except OfflineError as exc:
        _unreachable[host] = str(exc)
        raise


def refuse_unreachable(host: str) -> None:
    """Raises OfflineError if this process has already found that a host does not answer."""
    if host in _unreachable:
        raise OfflineError(_unreachable[host])


def forget_unreachable() -> None:
    """Ask every host again."""
    _unreachable.clear()


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        check_url(newurl, came_from=req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]  # typeshed: HTTPMessage


def _opener(cafile: str | None) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=_context(cafile)), _OnlyHttps)


@cache  # reading the system's certificates takes 30 ms
def _context(cafile: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if cafile:
        try:
            context.load_verify_locations(cafile=cafile)
        except OSError as exc:
            raise HubError(
                f"{cafile}: cannot read these certificates ({exc}); correct the setting `cert` of pip"
            ) from exc
    return context
