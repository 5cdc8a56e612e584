"""Models of a hub: digests by the hub, bytes pinned to a commit, its own cache, and a hub that does not answer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from apr.errors import ChecksumError, HubError, OfflineError
from apr.hub import _hf
from apr.hub._integrity import NOTHING, Fetched, Promise
from apr.hub._progress import SILENT
from apr.hub._reference import HfSource, parse

GGUF = b"GGUF" + bytes(range(256)) * 100
REPO = "org/repo"
FOLDER = {"config.json": b"{}", "model.safetensors": GGUF, "tokenizer.json": b'{"a":1}', "README.md": b"#"}


def fetch(text: str, folder: Path, promise: Promise = NOTHING) -> Fetched:
    source = parse(text)
    assert isinstance(source, HfSource)
    return _hf.fetch(source, folder, promise, progress=SILENT)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_fetched_at_its_commit_and_checked_against_the_hubs_digest(hub: Any, partial: Path) -> None:
    hub.add_repository(REPO, {"m.gguf": GGUF}, lfs={"m.gguf"})
    found = fetch("hf://org/repo/m.gguf", partial)
    assert found.files[0].path.read_bytes() == GGUF and found.promised_by == "hub" and not found.is_folder
    assert hub.paths()[-1] == f"/org/repo/resolve/{'c' * 40}/m.gguf"


def test_bytes_that_differ_from_the_hubs_digest_are_removed(hub: Any, partial: Path) -> None:
    hub.add_repository(REPO, {"m.gguf": GGUF}, lfs={"m.gguf"}, sha256="0" * 64)
    with pytest.raises(ChecksumError, match="promised by the hub"):
        fetch("hf://org/repo/m.gguf", partial)
    assert list(partial.iterdir()) == []


def test_a_small_file_is_checked_against_its_git_name(hub: Any, partial: Path) -> None:
    hub.add_repository(REPO, {"config.json": b"{}"}, lfs=set())
    [file] = fetch("hf://org/repo/config.json", partial).files
    assert file.sha256 == sha256(b"{}")
    file.path.unlink()
    hub.replies[f"/org/repo/resolve/{'c' * 40}/config.json"].body = b"[]"
    with pytest.raises(ChecksumError):
        fetch("hf://org/repo/config.json", partial)


def test_an_alias_that_promises_other_bytes_stops_before_the_download(hub: Any, partial: Path) -> None:
    hub.add_repository(REPO, {"m.gguf": GGUF}, lfs={"m.gguf"})
    with pytest.raises(HubError, match="not fetched"):
        fetch("hf://org/repo/m.gguf", partial, Promise(sha256="1" * 64, by="alias"))
    assert len(hub.requests) == 1


def test_a_repository_of_safetensors_is_a_folder(hub: Any, partial: Path) -> None:
    hub.add_repository(REPO, FOLDER, lfs={"model.safetensors"})
    found = fetch("hf://org/repo", partial)
    assert found.is_folder
    assert {file.name: file.path.read_bytes() for file in found.files} == {
        name: content for name, content in FOLDER.items() if name != "README.md"
    }


def test_a_repository_with_one_gguf_is_that_file(hub: Any, partial: Path) -> None:
    hub.add_repository(REPO, {"m.gguf": GGUF, "README.md": b"#"}, lfs={"m.gguf"})
    found = fetch("hf://org/repo", partial)
    assert not found.is_folder and [file.name for file in found.files] == ["m.gguf"]


@pytest.mark.parametrize(
    "names",
    [["a.gguf", "b.gguf"], ["a.gguf", "model.safetensors"], ["README.md"], ["a.safetensors", "b.safetensors"], []],
)
def test_a_repository_without_exactly_one_model_lists_what_it_has(names: list[str]) -> None:
    with pytest.raises(HubError, match="exactly one model was expected") as caught:
        _hf.choose(names, "hf://org/repo")
    assert all(name in str(caught.value) for name in names if name != "README.md")


def test_shards_come_with_their_index() -> None:
    names = [
        "model-00002-of-00002.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "x.py",
    ]
    assert _hf.choose(names, "hf://o/r") == [names[1], names[0], "model.safetensors.index.json"]


def test_a_missing_file_lists_what_there_is(hub: Any, partial: Path) -> None:
    hub.add_repository(REPO, {"m.gguf": GGUF}, lfs={"m.gguf"})
    with pytest.raises(HubError, match=r"no file 'n.gguf'; it has: m.gguf"):
        fetch("hf://org/repo/n.gguf", partial)


def test_a_name_from_the_hub_that_climbs_out_is_refused(hub: Any, partial: Path) -> None:
    hub.add_repository(REPO, {"../../evil.gguf": GGUF}, lfs={"../../evil.gguf"})
    with pytest.raises(HubError, match="not a plain path"):
        fetch("hf://org/repo", partial)
    assert len(hub.requests) == 1


def test_a_file_in_the_hubs_own_cache_is_used_and_left_there(
    hub: Any, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = hub_cached(Path(constants.HF_HUB_CACHE), "m.gguf", GGUF)
    hub.add_repository(REPO, {"m.gguf": GGUF}, lfs={"m.gguf"})
    [file] = fetch("hf://org/repo/m.gguf", partial).files
    assert file.path == blob and file.borrowed and len(hub.requests) == 1


def test_a_damaged_file_in_the_hubs_own_cache_is_not_used(hub: Any, partial: Path) -> None:
    hub_cached(Path(constants.HF_HUB_CACHE), "m.gguf", GGUF).write_bytes(b"damaged")
    hub.add_repository(REPO, {"m.gguf": GGUF}, lfs={"m.gguf"})
    [file] = fetch("hf://org/repo/m.gguf", partial).files
    assert file.path.read_bytes() == GGUF and not file.borrowed


def test_offline_the_hubs_own_cache_is_read(closed_network: None) -> None:
    hub_cached(Path(constants.HF_HUB_CACHE), "m.gguf", GGUF)
    source = parse("hf://org/repo/m.gguf@" + "c" * 40)
    assert isinstance(source, HfSource)
    found = _hf.fetch_offline(source, NOTHING)
    assert found is not None and found.files[0].sha256 == sha256(GGUF)


def test_a_repository_that_is_not_there_is_the_hubs_word(hub: Any, partial: Path) -> None:
    with pytest.raises(HubError, match=r"org/repo: .*404"):
        fetch("hf://org/repo/m.gguf", partial)


def test_an_answer_that_is_not_json_is_named(hub: Any, reply: Any, partial: Path) -> None:
    hub.replies["/api/models/org/repo?blobs=True"] = hub.replies["/api/models/org/repo?blobs=true"] = reply(b"<html>")
    with pytest.raises(HubError, match="cannot be read"):
        fetch("hf://org/repo/m.gguf", partial)


def test_a_hub_that_is_not_reached_is_remembered(partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OfflineError, match="cannot be reached"):
        fetch("hf://org/repo/m.gguf", partial)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked again"))
    with pytest.raises(OfflineError, match="cannot be reached"):
        fetch("hf://org/other/m.gguf", partial)


def test_a_mute_hub_is_given_up(hub: Any, reply: Any, partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apr.hub._environment.hub_answer_s", lambda: 0.1)
    hub.replies["/api/models/org/repo?blobs=True"] = hub.replies["/api/models/org/repo?blobs=true"] = reply(
        is_mute=True
    )
    with pytest.raises(OfflineError):
        fetch("hf://org/repo/m.gguf", partial)


def test_the_users_token_goes_to_the_hub_only(hub: Any, partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.add_repository(REPO, {"m.gguf": GGUF}, lfs={"m.gguf"})
    path = f"/org/repo/resolve/{'c' * 40}/m.gguf"
    hub.replies["/cdn"] = hub.replies[path]
    hub.replies[path] = type(hub.replies["/cdn"])(status=302, headers={"Location": f"{hub.url}/cdn"})
    fetch("hf://org/repo/m.gguf", partial)
    sent = {path: {k.lower(): v for k, v in headers.items()} for path, headers in hub.requests}
    assert sent[path]["authorization"] == "Bearer hf_secret" and "authorization" not in sent["/cdn"]


def hub_cached(cache: Path, name: str, content: bytes) -> Path:
    """Put a file where huggingface_hub keeps it; return the blob."""
    repo = cache / "models--org--repo"
    blob = repo / "blobs" / sha256(content)
    snapshot = repo / "snapshots" / ("c" * 40)
    blob.parent.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("c" * 40)
    blob.write_bytes(content)
    (snapshot / name).symlink_to(blob)
    return blob
