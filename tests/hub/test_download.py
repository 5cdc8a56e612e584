"""Downloads that are cut, resumed, changed, too long or too short."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import pytest

from apr.errors import ChecksumError, HubError, OfflineError
from apr.hub import _download
from apr.hub._http import Remote
from apr.hub._integrity import NOTHING, Promise
from apr.hub._progress import SILENT

BODY = random.Random(7).randbytes(3_000_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
PROMISE = Promise(sha256=SHA256, size_bytes=len(BODY), by="index")


def fetch(server: Any, folder: Path, promise: Promise = PROMISE, progress: Any = SILENT) -> tuple[Path, str]:
    return _download.download(Remote(f"{server.url}/m"), folder, promise, what="m", progress=progress)


def test_a_file_arrives_with_its_digest(server: Any, reply: Any, counter: Any, partial: Path) -> None:
    server.replies["/m"] = reply(BODY)
    seen = counter()
    path, sha256 = fetch(server, partial, progress=seen)
    assert path.read_bytes() == BODY and sha256 == SHA256
    assert seen.started == [("m", len(BODY))] and seen.n_bytes == len(BODY) and seen.n_finished == 1


def test_a_cut_transfer_goes_on_where_it_stopped(server: Any, reply: Any, partial: Path) -> None:
    server.replies["/m"] = reply(BODY, cuts=[1_000_000, 1_500_000])
    path, _ = fetch(server, partial)
    assert path.read_bytes() == BODY
    assert server.n_bytes["/m"] == len(BODY)
    assert [h.get("Range") for _, h in server.requests] == [None, "bytes=1000000-", "bytes=2500000-"]


def test_an_interrupted_transfer_is_resumed_by_the_next_call(
    server: Any, reply: Any, counter: Any, partial: Path
) -> None:
    server.replies["/m"] = reply(BODY)
    with pytest.raises(KeyboardInterrupt):
        fetch(server, partial, progress=counter(stop_after=1))
    [left] = partial.iterdir()
    here = left.stat().st_size
    assert left.suffix == ".part" and 0 < here < len(BODY) and left.read_bytes() == BODY[:here]
    seen = counter()
    path, _ = fetch(server, partial, progress=seen)
    assert path.read_bytes() == BODY and seen.n_bytes == len(BODY)
    assert server.requests[-1][1]["Range"] == f"bytes={here}-"


def test_a_server_without_ranges_sends_everything_again(server: Any, reply: Any, partial: Path) -> None:
    server.replies["/m"] = reply(BODY, cuts=[1_000_000], serves_ranges=False)
    assert fetch(server, partial)[0].read_bytes() == BODY


def test_a_server_that_keeps_cutting_is_left_with_the_partial_file(server: Any, reply: Any, partial: Path) -> None:
    server.replies["/m"] = reply(BODY, cuts=[500, 0, 0, 0, 0])
    with pytest.raises(HubError, match="keeps cutting the transfer; 500 bytes are here"):
        fetch(server, partial)
    assert [path.stat().st_size for path in partial.iterdir()] == [500]


def test_wrong_bytes_are_named_and_removed(server: Any, reply: Any, partial: Path) -> None:
    wrong = BODY[:-1] + bytes([BODY[-1] ^ 1])
    server.replies["/m"] = reply(wrong)
    with pytest.raises(ChecksumError) as caught:
        fetch(server, partial)
    assert SHA256 in str(caught.value) and hashlib.sha256(wrong).hexdigest() in str(caught.value)
    assert list(partial.iterdir()) == []


def test_a_partial_file_with_wrong_bytes_does_not_survive(server: Any, reply: Any, partial: Path) -> None:
    server.replies["/m"] = reply(BODY)
    _download.part_of(partial, identity=SHA256).write_bytes(b"x" * 1000)
    with pytest.raises(ChecksumError):
        fetch(server, partial)
    assert fetch(server, partial)[0].read_bytes() == BODY


def test_a_wrong_length_is_refused_before_a_byte_is_written(server: Any, reply: Any, partial: Path) -> None:
    server.replies["/m"] = reply(BODY + b"x")
    with pytest.raises(ChecksumError, match="announces 3000001 bytes"):
        fetch(server, partial)
    assert list(partial.iterdir()) == []


def test_a_transfer_longer_than_promised_is_stopped(server: Any, reply: Any, partial: Path) -> None:
    server.replies["/m"] = reply(BODY, headers={"Content-Length": "", "Connection": "close"})
    with pytest.raises(ChecksumError, match="more than the 1000 bytes"):
        fetch(server, partial, Promise(sha256=SHA256, size_bytes=1000, by="hub"))
    assert list(partial.iterdir()) == []


def test_a_complete_partial_file_is_not_fetched_again(server: Any, partial: Path) -> None:
    _download.part_of(partial, identity=SHA256).write_bytes(BODY)
    assert fetch(server, partial)[1] == SHA256
    assert server.requests == []


def test_without_a_digest_a_cut_transfer_goes_on_by_its_etag(server: Any, reply: Any, partial: Path) -> None:
    server.replies["/m"] = reply(BODY, cuts=[1000], headers={"ETag": '"v1"'})
    path, sha256 = fetch(server, partial, NOTHING)
    assert sha256 == SHA256 and server.requests[1][1]["If-Range"] == '"v1"'
    assert list(partial.iterdir()) == [path]


def test_without_a_digest_two_versions_are_never_joined(server: Any, reply: Any, counter: Any, partial: Path) -> None:
    server.replies["/m"] = reply(b"old" * 1_000_000, headers={"ETag": '"v1"'})
    with pytest.raises(KeyboardInterrupt):
        fetch(server, partial, NOTHING, progress=counter(stop_after=1))
    server.replies["/m"] = reply(BODY, headers={"ETag": '"v2"'})
    assert fetch(server, partial, NOTHING)[1] == SHA256


def test_without_digest_and_etag_a_transfer_starts_over(server: Any, reply: Any, partial: Path) -> None:
    server.replies["/m"] = reply(BODY, cuts=[1000])
    assert fetch(server, partial, NOTHING)[1] == SHA256
    assert "Range" not in server.requests[1][1]


def test_a_range_that_starts_elsewhere_is_not_appended(server: Any, reply: Any, partial: Path) -> None:
    lying = {"Content-Range": f"bytes 5-{len(BODY) - 1}/{len(BODY)}"}
    server.replies["/m"] = reply(BODY, status=206, headers=lying)
    _download.part_of(partial, identity=SHA256).write_bytes(BODY[:1000])
    with pytest.raises(HubError, match="keeps cutting"):
        fetch(server, partial)


def test_a_full_disk_is_told_before_the_transfer(
    server: Any, reply: Any, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.replies["/m"] = reply(BODY)
    monkeypatch.setattr(_download, "_SPARE_BYTES", 1 << 62)
    with pytest.raises(HubError, match=r"3 MB are needed, .* MB are free"):
        fetch(server, partial)


def test_a_missing_file_is_the_servers_word(server: Any, partial: Path) -> None:
    with pytest.raises(HubError, match="answered 404"):
        fetch(server, partial)


def test_a_closed_port_is_offline(partial: Path) -> None:
    with pytest.raises(OfflineError, match="cannot be reached"):
        _download.download(Remote("http://127.0.0.1:9/m"), partial, NOTHING, what="m", progress=SILENT)
