"""References: what they mean, and what they must never mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.errors import HubError
from apr.hub import _reference
from apr.hub._reference import HfSource, HttpsSource, PypiSource, WheelMember, parse

DIGEST = "ab" * 32


def test_a_hub_file_with_a_revision_is_split() -> None:
    assert parse("hf://org/repo/sub/file.gguf@refs/pr/1") == HfSource(
        "org/repo", "sub/file.gguf", "refs/pr/1", "hf://org/repo/sub/file.gguf@refs/pr/1"
    )


def test_a_hub_repository_has_no_file() -> None:
    assert parse("hf://org/repo") == HfSource("org/repo", None, None, "hf://org/repo")


def test_wheels_are_joined_in_the_order_written() -> None:
    text = "pypi://one==1.0/a/x.bin+pypi://two/b+c.bin"
    assert parse(text) == PypiSource((WheelMember("one", "1.0", "a/x.bin"), WheelMember("two", None, "b+c.bin")), text)


def test_a_url_promises_the_digest_of_its_fragment() -> None:
    text = f"https://host/m.gguf?download=1#sha256={DIGEST.upper()}"
    assert parse(text) == HttpsSource("https://host/m.gguf?download=1", DIGEST, text)


@pytest.mark.parametrize(
    "text",
    [
        "hf://org",
        "hf://../repo/file",
        "hf://org/../file",
        "hf://org/repo/../../file",
        "hf://org/repo/a//b",
        "hf://org/repo//etc/passwd",
        "hf://org/repo/",
        "hf://org/repo/a\\..\\b",
        "hf://org/repo/C:/x",
        "hf://org/repo/a\0b",
        "hf://org/repo/file@",
        "hf://org/repo/file@../main",
        "hf://org/repo/file@a b",
        "pypi://pkg",
        "pypi://pkg==1.0",
        "pypi://pkg==1.0/../x",
        "pypi://../x",
        "pypi://pkg/a/./b",
        "pypi://pkg==/x",
        "pypi://a/x+pypi:///y",
        "https://",
        "https://user:secret@host/x",
        "https://host/a b",
        "https://host/x#sha256=123",
        "https://host/x#md5=" + "a" * 32,
        "http://host/x",
        "ftp://host/x",
        "file:///etc/passwd",
    ],
)
def test_a_reference_that_is_not_plain_is_refused(text: str) -> None:
    with pytest.raises(HubError):
        parse(text)


def test_a_password_in_a_url_is_not_repeated_in_the_message() -> None:
    with pytest.raises(HubError) as caught:
        parse("https://user:secret@host/x")
    assert "secret" not in str(caught.value)


def test_http_is_refused_with_what_to_do() -> None:
    with pytest.raises(HubError, match="use https"):
        parse("http://host/model.gguf")


@given(st.text(max_size=300))
def test_any_text_becomes_a_plain_file_name(text: str) -> None:
    name = _reference.safe_name(text)
    assert 0 < len(name) <= 120 and "/" not in name and "\\" not in name and not name.startswith(".")


@given(st.text(max_size=80), st.text(max_size=80))
def test_different_references_have_different_folders(one: str, other: str) -> None:
    same = _reference.key(f"https://h/{one}") == _reference.key(f"https://h/{other}")
    assert same == (one == other)


def test_the_name_of_a_url_with_an_encoded_path_is_plain() -> None:
    assert _reference.file_name(parse("https://host/a/%2e%2e%2f%2e%2e%2fetc%2fpasswd")) == "passwd"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "."])
def test_a_name_that_climbs_out_of_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="plain file name"):
        _reference.inside(tmp_path, name)


def test_a_name_that_is_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(HubError, match="plain file name"):
        _reference.inside(root, "link")
