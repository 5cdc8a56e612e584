"""The cache: what is there, whether it is still what it was, and how it goes away."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from apr.errors import HubError
from apr.hub import cache
from apr.hub._integrity import Fetched, FetchedFile
from apr.hub.cache import CachedModel


def stored(key: str = "key", content: bytes = b"model", *names: str, borrowed: bool = False) -> CachedModel:
    files = []
    for name in names or ("m.gguf",):
        path = cache.partial_dir() / f"{name}.part"
        path.write_bytes(content)
        files.append(FetchedFile(name, path, hashlib.sha256(content).hexdigest(), len(content), borrowed))
    fetched = Fetched(tuple(files), promised_by="hub", is_folder=len(files) > 1)
    return cache.store(key, f"hf://{key}", fetched, source=f"hf://{key}")


def test_a_stored_file_is_found(home: Path) -> None:
    model = stored()
    assert model.path == home / "models" / "key" / "m.gguf" and model.path.read_bytes() == b"model"
    found = cache.lookup("key")
    assert found is not None and replace(found, last_used=model.last_used) == model
    assert [listed.path for listed in cache.listed()] == [model.path]
    assert list(cache.partial_dir().iterdir()) == []


def test_a_folder_is_one_model() -> None:
    model = stored("key", b"x", "a.safetensors", "config.json")
    assert (
        sorted(path.name for path in model.path.iterdir()) == ["a.safetensors", "config.json"] and model.size_bytes == 2
    )


def test_a_borrowed_file_stays_where_it_is() -> None:
    model = stored(borrowed=True)
    assert model.path.read_bytes() == b"model" and [p.name for p in cache.partial_dir().iterdir()] == ["m.gguf.part"]


def test_an_untouched_file_is_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stored()
    monkeypatch.setattr("apr.hub._integrity.sha256_of", lambda _: pytest.fail("hashed"))
    assert cache.lookup("key") is not None


def test_a_touched_file_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = stored()
    os.utime(model.path, ns=(1, 1))
    assert cache.lookup("key") is not None
    monkeypatch.setattr("apr.hub._integrity.sha256_of", lambda _: pytest.fail("hashed again"))
    assert cache.lookup("key") is not None


def test_a_changed_byte_is_found(caplog: pytest.LogCaptureFixture) -> None:
    model = stored()
    model.path.write_bytes(b"mOdel")
    os.utime(model.path, ns=(1, 1))
    assert cache.lookup("key") is None
    assert model.sha256 in caplog.text


def test_a_missing_file_is_found() -> None:
    stored().path.unlink()
    assert cache.lookup("key") is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": "apr.cached-model/1"}', '{"schema": "other/9"}'])
def test_a_damaged_record_counts_as_not_there(content: str, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    stored()
    (home / "models" / ".entries" / "key.json").write_text(content)
    assert cache.lookup("key") is None and cache.listed() == []


@pytest.mark.parametrize("name", ["../../../evil", "/etc/passwd", ".."])
def test_a_record_cannot_name_a_file_elsewhere(name: str, home: Path) -> None:
    stored()
    entry = home / "models" / ".entries" / "key.json"
    record = json.loads(entry.read_text())
    record["files"] = {name: record["files"]["m.gguf"]}
    record["single"] = name
    entry.write_text(json.dumps(record))
    assert cache.lookup("key") is None


def test_a_name_that_climbs_out_is_not_stored(home: Path) -> None:
    with pytest.raises(HubError, match="plain file name"):
        stored("key", b"x", "../../evil.gguf", "b")
    assert not (home / "evil.gguf").exists()


def test_what_a_killed_process_left_is_replaced(home: Path) -> None:
    (home / "models" / "key").mkdir(parents=True)
    (home / "models" / "key" / "junk").write_bytes(b"x")
    assert [path.name for path in stored().path.parent.iterdir()] == ["m.gguf"]


def test_a_discarded_model_is_gone(home: Path) -> None:
    stored()
    cache.discard("key")
    assert cache.listed() == [] and not (home / "models" / "key").exists()


def test_an_abandoned_partial_file_is_removed() -> None:
    old, new = cache.partial_dir() / "old.part", cache.partial_dir() / "new.part"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (1, 1))
    assert sorted(path.name for path in cache.partial_dir().iterdir()) == ["new.part"]


def test_using_a_model_changes_when_it_was_used_last(home: Path) -> None:
    stored()
    entry = home / "models" / ".entries" / "key.json"
    os.utime(entry, (1, 1))
    assert cache.listed()[0].last_used == "1970-01-01T00:00:01+00:00"
    found = cache.lookup("key")
    assert found is not None and found.last_used >= found.pulled_at


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("APR_HOME", str(tmp_path / "file"))
    with pytest.raises(HubError, match="set APR_HOME"):
        cache.partial_dir()
