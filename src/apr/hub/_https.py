"""A file at a URL, checked against the SHA-256 in the reference, if there is one."""

from __future__ import annotations

from pathlib import Path

from apr.hub import _reference
from apr.hub._download import download
from apr.hub._http import Remote, without_user
from apr.hub._integrity import Fetched, FetchedFile, Promise
from apr.hub._progress import Progress
from apr.hub._reference import HttpsSource


def fetch(source: HttpsSource, folder: Path, promise: Promise, *, progress: Progress) -> Fetched:
    """Fetch into `folder`. Raises ChecksumError, OfflineError, HubError."""
    if not promise.names_content and source.sha256:
        promise = Promise(sha256=source.sha256, by="reference")
    path, sha256 = download(Remote(source.url), folder, promise, what=without_user(source.url), progress=progress)
    file = FetchedFile(_reference.file_name(source), path, sha256, path.stat().st_size)
    return Fetched((file,), promised_by=promise.by)
