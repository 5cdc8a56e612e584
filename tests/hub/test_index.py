"""Finding a wheel: both forms of the index, folders, versions, and links that must not be followed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apr.errors import HubError, OfflineError
from apr.hub import _environment, _index
from apr.hub._reference import WheelMember

WANTED = WheelMember("my-pkg", "1.0", "m")


@pytest.mark.parametrize("form", ["json", "html"])
def test_both_forms_of_an_index_are_read(form: str, index: Any) -> None:
    path = index.add_package("my-pkg", "1.0", b"wheel", form=form)
    found = _index.find_wheel(WheelMember("My_Pkg", "1.0", "m"))
    assert found.url == index.url + path
    assert found.sha256 == hashlib.sha256(b"wheel").hexdigest()
    assert found.size_bytes == (5 if form == "json" else None)


def page(index: Any, reply: Any, *names: str, **entry: object) -> None:
    files = [{"filename": name, "url": f"{index.url}/{name}", "hashes": {}, **entry} for name in names]
    index.replies["/simple/my-pkg/"] = reply(json.dumps({"files": files}).encode(), "application/json")


def test_without_a_version_the_newest_stable_one_is_taken(index: Any, reply: Any) -> None:
    names = [f"my_pkg-{v}-py3-none-any.whl" for v in ("1.9", "1.10", "2.0rc1", "1.2")]
    page(index, reply, *names, "my_pkg-3.0.tar.gz", "other-9-py3-none-any.whl", "nonsense")
    assert str(_index.find_wheel(WheelMember("my-pkg", None, "m")).version) == "1.10"


def test_of_several_builds_the_one_for_any_platform_is_taken(index: Any, reply: Any) -> None:
    page(index, reply, "my_pkg-1.0-cp311-cp311-linux_x86_64.whl", "my_pkg-1.0-py3-none-any.whl")
    assert _index.find_wheel(WANTED).name == "my_pkg-1.0-py3-none-any.whl"


def test_a_yanked_wheel_needs_its_version_named(index: Any, reply: Any) -> None:
    page(index, reply, "my_pkg-1.0-py3-none-any.whl", yanked="broken")
    assert _index.find_wheel(WANTED).is_yanked
    with pytest.raises(HubError, match="no wheel"):
        _index.find_wheel(WheelMember("my-pkg", None, "m"))


@pytest.mark.parametrize("url", ["http://host.invalid/w.whl", "file:///etc/w.whl", "ftp://host.invalid/w.whl"])
def test_a_link_to_anything_but_https_is_not_used(url: str, index: Any, reply: Any) -> None:
    page(index, reply, "my_pkg-1.0-py3-none-any.whl", url=url)
    with pytest.raises(HubError, match="no wheel"):
        _index.find_wheel(WANTED)


def test_a_password_goes_to_the_index_and_not_to_another_host(
    server: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.url.removeprefix("http://")
    monkeypatch.setattr(_environment, "pip_variables", lambda: {"index-url": f"http://user:pw@{address}/simple"})
    server.add_package("my-pkg", "1.0", b"wheel")
    assert "Authorization" in _index.find_wheel(WANTED).secrets
    page(server, reply, "my_pkg-1.0-py3-none-any.whl", url="https://other.invalid/w.whl")
    assert _index.find_wheel(WANTED).secrets == {}
    assert server.requests[0][1]["Authorization"].startswith("Basic ")


def test_a_folder_of_wheels_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "my_pkg-1.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    monkeypatch.setattr(_environment, "pip_variables", lambda: {"no-index": "1", "find-links": str(tmp_path)})
    assert _index.find_wheel(WANTED).local_path == wheel


def test_an_index_in_a_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "simple" / "my-pkg").mkdir(parents=True)
    link = f'<a href="../../files/my_pkg-1.0-py3-none-any.whl#sha256={"a" * 64}">x</a>'
    (tmp_path / "simple" / "my-pkg" / "index.html").write_text(link)
    monkeypatch.setattr(_environment, "pip_variables", lambda: {"index-url": (tmp_path / "simple").as_uri()})
    found = _index.find_wheel(WANTED)
    assert found.local_path == tmp_path / "files" / "my_pkg-1.0-py3-none-any.whl" and found.sha256 == "a" * 64


def test_the_next_index_is_asked_when_one_does_not_answer(index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"index-url": "http://127.0.0.1:9/simple", "extra-index-url": f"http://host.invalid/s {index.url}/simple"}
    monkeypatch.setattr(_environment, "pip_variables", lambda: places)
    index.add_package("my-pkg", "1.0", b"wheel")
    assert str(_index.find_wheel(WANTED).version) == "1.0"


def test_an_index_that_cannot_be_reached_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_environment, "pip_variables", lambda: {"index-url": "http://127.0.0.1:9/simple"})
    with pytest.raises(OfflineError, match=r"127\.0\.0\.1:9 cannot be reached"):
        _index.find_wheel(WANTED)


def test_a_mute_index_is_given_up(index: Any, reply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_index, "_PAGE_ANSWERS_IN_S", 0.1)
    index.replies["/simple/my-pkg/"] = reply(is_mute=True)
    with pytest.raises(OfflineError, match="no answer"):
        _index.find_wheel(WANTED)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"files": 1}', b'{"files": [1, {}, {"url": 1, "filename": "a"}]}'])
def test_a_page_that_is_not_as_the_standard_says_has_no_wheels(body: bytes) -> None:
    assert _index.parse_json(body, "host") == []


def test_a_page_that_is_not_json_is_named() -> None:
    with pytest.raises(HubError, match="not JSON"):
        _index.parse_json(b"{", "host")


def test_a_version_that_is_none_is_refused(index: Any, wheel_of: Callable[[dict[str, bytes]], bytes]) -> None:
    index.add_package("my-pkg", "1.0", b"wheel")
    with pytest.raises(HubError, match="PEP 440"):
        _index.find_wheel(WheelMember("my-pkg", "one", "m"))
