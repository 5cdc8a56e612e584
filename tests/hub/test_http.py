"""Which URLs are opened, where secrets go, and how long anything may take."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from apr.errors import HubError, OfflineError
from apr.hub import _http
from apr.hub._http import Remote, check_url, opened, within


@pytest.mark.parametrize("url", ["https://host/x", "http://127.0.0.1:1/x", "http://localhost/x", "http://[::1]/x"])
def test_https_and_this_machine_are_allowed(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    ["http://host/x", "ftp://host/x", "file:///etc/passwd", "http://127.0.0.1.evil.example/x", "http://10.0.0.1/"],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(HubError, match="only https"):
        check_url(url)


def test_a_page_from_elsewhere_must_not_point_at_this_machine() -> None:
    with pytest.raises(HubError, match="points to it"):
        check_url("http://127.0.0.1/admin", came_from="https://host/x")


@pytest.mark.parametrize("target", ["http://host.invalid/x", "ftp://host.invalid/x", "file:///etc/passwd"])
def test_a_redirect_to_anything_but_https_is_refused(server: Any, reply: Any, target: str) -> None:
    server.replies["/m"] = reply(status=302, headers={"Location": target})
    with (
        pytest.raises(HubError, match=r"is refused; only https|Redirection to url .* is not allowed"),
        opened(Remote(f"{server.url}/m"), headers={}, timeout_s=5),
    ):
        pass


def test_a_redirect_loop_ends(server: Any, reply: Any) -> None:
    server.replies["/m"] = reply(status=302, headers={"Location": f"{server.url}/m"})
    with pytest.raises(HubError), opened(Remote(f"{server.url}/m"), headers={}, timeout_s=5):
        pass
    assert len(server.requests) <= _http.MAX_REDIRECTS + 1


def test_a_secret_is_not_sent_to_where_a_server_redirects(server: Any, reply: Any) -> None:
    server.replies["/m"] = reply(status=302, headers={"Location": f"{server.url}/other"})
    server.replies["/other"] = reply(b"x")
    remote = Remote(f"{server.url}/m", secrets={"Authorization": "Bearer key"})
    with opened(remote, headers={"Range": "bytes=0-"}, timeout_s=5) as response:
        assert response.read() == b"x"
    first, second = (headers for _, headers in server.requests)
    assert first["Authorization"] == "Bearer key" and "Authorization" not in second and second["Range"] == "bytes=0-"


def test_a_mute_host_is_given_up_and_not_asked_again() -> None:
    asked, over = [], threading.Event()

    def ask() -> None:
        asked.append(1)
        over.wait()

    for _ in range(2):
        with pytest.raises(OfflineError, match=r"host\.invalid gave no answer in 0\.01 s"):
            within(0.01, "host.invalid", ask)
    over.set()
    assert len(asked) <= 1


def test_a_host_that_refused_is_not_asked_again() -> None:
    asked = []

    def ask() -> None:
        asked.append(1)
        raise OfflineError("closed")

    for _ in range(2):
        with pytest.raises(OfflineError, match="closed"):
            within(5, "host.invalid", ask)
    assert asked == [1]


def test_a_stalled_server_is_offline(server: Any, reply: Any) -> None:
    server.replies["/m"] = reply(is_mute=True)
    with (
        pytest.raises(OfflineError, match=r"127\.0\.0\.1"),
        opened(Remote(f"{server.url}/m"), headers={}, timeout_s=0.1),
    ):
        pass


def test_an_answer_in_time_is_returned() -> None:
    assert within(5, "host", lambda: 7) == 7


def test_an_error_crosses_the_thread() -> None:
    def fail() -> None:
        raise HubError("no")

    with pytest.raises(HubError, match="no"):
        within(5, "host", fail)


def test_a_shown_url_has_no_secrets() -> None:
    assert _http.without_user("https://u:p@host/a?token=1#x") == "https://host/a"
    assert Remote("https://u:p@host:8/a").host == "host:8"


def test_certificates_that_cannot_be_read_are_named(server: Any) -> None:
    remote = Remote(f"{server.url}/m", cafile="/nowhere/ca.pem")
    with pytest.raises(HubError, match=r"/nowhere/ca\.pem"), opened(remote, headers={}, timeout_s=5):
        pass
