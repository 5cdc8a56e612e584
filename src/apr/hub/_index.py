"""Find a wheel: the simple repository API (PEP 691 JSON, PEP 503 HTML), and folders of wheels."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.request import url2pathname

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from apr.errors import HubError, OfflineError
from apr.hub import _pip
from apr.hub._http import Remote, check_url, opened, within
from apr.hub._pip import Location
from apr.hub._reference import WheelMember

logger = logging.getLogger(__name__)

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_PAGE_ANSWERS_IN_S = 10.0
_CONNECT_S = 5.0
_MAX_PAGE_BYTES = 64 << 20  # the largest pages of the public index are near 20 MB


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that can be fetched, or opened where it lies (file://).

    sha256, size_bytes:  as the index promises, or None
    secrets, cafile:     as for `Remote`
    """

    url: str
    name: str
    version: Version
    sha256: str | None = None
    size_bytes: int | None = None
    is_yanked: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict)
    cafile: str | None = None

    @property
    def local_path(self) -> Path | None:
        """The wheel's path if it is on this machine."""
        return _path_of(self.url)


def find_wheel(wanted: WheelMember) -> Wheel:
    """The wheel of a package, from the first place that has it; without a version, the newest stable one there.

    Raises OfflineError if no place answers, HubError if none has it; both say what each place said.
    """
    reasons, errors = [], []
    for location in _pip.locations():
        try:
            wheel = _choose(list(_wheels(location, wanted.package)), wanted)
        except HubError as exc:
            errors.append(exc)
            reasons.append(str(exc))
            continue
        if wheel is not None:
            return wheel
        reasons.append(f"{location.url} has no wheel of {wanted.package} {wanted.version or ''}".rstrip())
        errors.append(HubError())
    kind = OfflineError if errors and all(isinstance(error, OfflineError) for error in errors) else HubError
    raise kind("; ".join(reasons) or "pip is configured to use no package index, and no folder of wheels")


def _choose(wheels: list[Wheel], wanted: WheelMember) -> Wheel | None:
    if wanted.version is not None:
        try:
            version = Version(wanted.version)
        except InvalidVersion as exc:
            raise HubError(f"{wanted.version!r} is not a version of a package (PEP 440)") from exc
        wheels = [wheel for wheel in wheels if wheel.version == version]
    else:
        stable = [wheel for wheel in wheels if not wheel.version.is_prerelease]
        wheels = [wheel for wheel in stable or wheels if not wheel.is_yanked]
    # of several builds of one version, the one for any platform; then any, but always the same one
    return min(wheels, key=lambda w: (_Descending(w.version), not w.name.endswith("-any.whl"), w.name), default=None)


@dataclass(frozen=True, slots=True)
class _Descending:
    version: Version

    def __lt__(self, other: _Descending) -> bool:
        return self.version > other.version


def _wheels(location: Location, package: str) -> Iterator[Wheel]:
    name = canonicalize_name(package)
    url = f"{location.url}/{name}/" if location.is_index else location.url
    folder = _path_of(url)
    if folder is None:
        check_url(url)
        base, links = _page(Remote(url, location.secrets, location.cafile))
    else:
        base, links = _folder_page(folder)
    for link in links:
        wheel = _wheel(link, base, location)
        if wheel is not None and parse_wheel_filename(wheel.name)[0] == name:
            yield wheel


@dataclass(frozen=True, slots=True)
class _Link:
    href: str
    file_name: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    is_yanked: bool = False


def _wheel(link: _Link, base: str, location: Location) -> Wheel | None:
    """A link as a wheel, or None if it is none, or points to where it must not."""
    url, fragment = urldefrag(urljoin(base, link.href))
    name = link.file_name or unquote(urlsplit(url).path).rpartition("/")[2]
    sha256 = link.sha256 or (fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None)
    try:
        version = parse_wheel_filename(name)[1]
    except (InvalidWheelFilename, InvalidVersion):
        return None
    if not (urlsplit(url).scheme == "file" and urlsplit(base).scheme == "file"):
        try:
            check_url(url, came_from=None if urlsplit(base).scheme == "file" else base)
        except HubError as exc:
            logger.warning("%s; this wheel is not used", exc)
            return None
    ours = (
        urlsplit(url).netloc == urlsplit(location.url).netloc and urlsplit(url).scheme == urlsplit(location.url).scheme
    )
    secrets = location.secrets if ours else {}
    return Wheel(
        url,
        name,
        version,
        sha256.lower() if sha256 else None,
        link.size_bytes,
        link.is_yanked,
        secrets,
        location.cafile,
    )


def _page(remote: Remote) -> tuple[str, list[_Link]]:
    """(URL of the page after redirects, its links)."""

    def ask() -> tuple[str, str, bytes]:
        with opened(remote, headers={"Accept": _ACCEPT}, timeout_s=_CONNECT_S) as response:
            try:
                body = response.read(_MAX_PAGE_BYTES + 1)
            except OSError as exc:
                raise OfflineError(f"{remote.host} stopped in the middle of a page: {exc}") from exc
            return response.geturl(), response.headers.get_content_type(), body

    url, kind, body = within(_PAGE_ANSWERS_IN_S, remote.host, ask)
    if len(body) > _MAX_PAGE_BYTES:
        raise HubError(f"{remote.host}: a page of more than {_MAX_PAGE_BYTES} bytes is not read")
    return url, parse_json(body, remote.host) if kind.endswith("json") else parse_html(body)


def _folder_page(folder: Path) -> tuple[str, list[_Link]]:
    """The links of an index page in a folder, or the wheels that lie there; nothing if there is no such folder."""
    page = folder / "index.html"
    if page.is_file() and page.stat().st_size <= _MAX_PAGE_BYTES:
        return page.absolute().as_uri(), parse_html(page.read_bytes())
    wheels = sorted(folder.glob("*.whl")) if folder.is_dir() else []
    return f"{folder.absolute().as_uri()}/", [
        _Link(path.absolute().as_uri(), path.name, None, path.stat().st_size) for path in wheels
    ]


def parse_json(body: bytes, host: str) -> list[_Link]:
    """The files of a PEP 691 page. Entries that are not as the standard says are left out."""
    try:
        page = json.loads(body)
    except ValueError as exc:
        raise HubError(f"{host} sent a page that is not JSON, though it says so: {exc}") from exc
    files = page.get("files") if isinstance(page, dict) else None
    return [link for entry in files if (link := _json_link(entry))] if isinstance(files, list) else []


def _json_link(entry: object) -> _Link | None:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("url"), str)
        or not isinstance(entry.get("filename"), str)
    ):
        return None
    hashes, size = entry.get("hashes"), entry.get("size")
    sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
    return _Link(
        href=entry["url"],
        file_name=entry["filename"],
        sha256=sha256 if isinstance(sha256, str) else None,
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) else None,
        is_yanked=bool(entry.get("yanked")),
    )


def parse_html(body: bytes) -> list[_Link]:
    """The links of a PEP 503 page."""
    parser = _Anchors()
    parser.feed(body.decode("utf-8", errors="replace"))
    return parser.links


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[_Link] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        href = values.get("href")
        if tag == "a" and href:
            self.links.append(_Link(href, is_yanked="data-yanked" in values))


def _path_of(url: str) -> Path | None:
    return Path(url2pathname(urlsplit(url).path)) if urlsplit(url).scheme == "file" else None
