"""A model from a Hugging Face hub: what it has and its digests by `huggingface_hub`, the bytes by our own downloader.

Large files are promised by the SHA-256 that the hub itself reports (LFS), small ones by their git blob id. Files are
fetched at the commit that was asked about, so a repository that changes meanwhile cannot mix two states. The hub's
own cache is read (files are linked or copied from it), never written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from apr.errors import HubError, OfflineError
from apr.hub import _environment, _integrity, _reference
from apr.hub._download import download, require_space
from apr.hub._http import Remote, within
from apr.hub._integrity import Fetched, FetchedFile, Promise
from apr.hub._progress import Progress
from apr.hub._reference import HfSource

_SIDE_FILES = frozenset(
    {
        "config.json",
        "generation_config.json",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
    }
)
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _Repository:
    """A repository at one commit: its files, each with what the hub promises about it."""

    repo: str
    commit: str
    files: Mapping[str, Promise]


def fetch(source: HfSource, folder: Path, promise: Promise, *, progress: Progress) -> Fetched:
    """Fetch a file, or a repository's one model, into `folder`. Raises ChecksumError, OfflineError, HubError."""
    if source.file is not None and promise.sha256 is not None:
        ready = _from_hub_cache(source, promise.sha256)
        if ready is not None:
            return Fetched((ready,), promised_by=promise.by)
    repository = _ask(source)
    names = [source.file] if source.file is not None else choose(list(repository.files), source.text)
    is_folder = names[0].endswith(".safetensors") and source.file is None
    promises = {
        name: _strictest(repository, name, promise if source.file is not None else None, source) for name in names
    }
    require_space(folder, sum(p.size_bytes or 0 for p in promises.values()))
    files = [_fetch_file(repository, name, promises[name], folder, progress) for name in names]
    return Fetched(tuple(files), promised_by=promise.by if promise.names_content else "hub", is_folder=is_folder)


def fetch_offline(source: HfSource, promise: Promise) -> Fetched | None:
    """The file from the hub's own cache, if it is there and a digest is known for it. Opens no socket."""
    if source.file is None:
        return None
    ready = _from_hub_cache(source, promise.sha256)
    return Fetched((ready,), promised_by=promise.by if promise.names_content else "hub") if ready else None


def choose(names: Sequence[str], reference: str) -> list[str]:
    """The files of a repository's one model: a .gguf, or safetensors with their side files (weights first).

    Raises HubError, listing the candidates, if there is none or more than one.
    """
    top = [name for name in names if "/" not in name]
    ggufs = [name for name in names if name.endswith(".gguf")]
    shards = sorted(name for name in top if _SHARD.fullmatch(name))
    if "model.safetensors" in top:
        weights = ["model.safetensors"]
    elif shards and "model.safetensors.index.json" in top:
        weights = shards
    else:
        weights = []
    if len(ggufs) + bool(weights) == 1:
        return ggufs or weights + sorted(_SIDE_FILES.intersection(top))
    candidates = ggufs + weights[:1] or [name for name in top if name.endswith((".safetensors", ".bin", ".pt"))]
    listed = "; ".join(sorted(candidates)[:12]) or "no .gguf and no model.safetensors"
    base = reference.partition("@")[0]
    raise HubError(f"{reference}: exactly one model was expected, found: {listed}; name the file: {base}/FILE")


def _ask(source: HfSource) -> _Repository:
    """What the hub says about a repository. Raises OfflineError if no answer comes in time, HubError if it refuses."""
    from huggingface_hub import HfApi, constants, errors

    def ask() -> _Repository:
        try:
            api = HfApi(endpoint=constants.ENDPOINT)
            info = api.model_info(
                source.repo, revision=source.revision, files_metadata=True, timeout=_environment.hub_answer_s()
            )
        except errors.HfHubHTTPError as exc:
            raise HubError(f"{source.repo}: {_first_line(exc)}") from exc
        except (errors.OfflineModeIsEnabled, errors.HTTPError, OSError) as exc:
            raise OfflineError(f"{host} cannot be reached: {_first_line(exc)}") from exc
        except ValueError as exc:
            raise HubError(f"{source.repo}: the hub's answer cannot be read: {_first_line(exc)}") from exc
        if not info.sha or not _REVISION_OF_COMMIT.fullmatch(info.sha):
            raise HubError(
                f"{source.repo}: the hub names no commit ({info.sha!r}); 40 hexadecimal digits were expected"
            )
        return _Repository(source.repo, info.sha, {s.rfilename: _promise_of(s) for s in info.siblings or []})

    host = constants.ENDPOINT.partition("://")[2]
    return within(_environment.hub_answer_s(), host, ask)


_REVISION_OF_COMMIT = re.compile(r"[0-9a-f]{40}")


def _promise_of(sibling: object) -> Promise:
    """What the hub says about one file; `sibling` is huggingface_hub's RepoSibling."""
    lfs, size, blob = getattr(sibling, "lfs", None), getattr(sibling, "size", None), getattr(sibling, "blob_id", None)
    if lfs is not None:
        return Promise(sha256=str(lfs["sha256"]).lower(), size_bytes=lfs["size"], by="hub")
    return Promise(size_bytes=size, by="hub", git_sha1=blob)


def _strictest(repository: _Repository, name: str, promise: Promise | None, source: HfSource) -> Promise:
    """The promise to hold a file to. Raises HubError, before any byte is fetched, if the hub's digest differs."""
    if name not in repository.files:
        some = ", ".join(sorted(repository.files)[:12])
        raise HubError(f"{source.text}: {repository.repo} has no file {name!r}; it has: {some}")
    _reference.check_member_path(name, source.text)
    hubs = repository.files[name]
    if promise is None or not promise.names_content:
        if not hubs.names_content:
            raise HubError(
                f"{source.text}: the hub reports no digest for {name!r}; nothing is fetched that cannot be checked"
            )
        return hubs
    if hubs.sha256 is not None and hubs.sha256 != promise.sha256:
        raise HubError(
            f"{repository.repo}/{name} has SHA-256 {hubs.sha256}, the {promise.by} {promise.sha256}; not fetched"
        )
    return promise


def _fetch_file(repository: _Repository, name: str, promise: Promise, folder: Path, progress: Progress) -> FetchedFile:
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    pinned = HfSource(repository.repo, name, repository.commit, text=f"hf://{repository.repo}/{name}")
    if promise.sha256 is not None and (ready := _from_hub_cache(pinned, promise.sha256)) is not None:
        return ready
    url = hf_hub_url(repository.repo, name, revision=repository.commit, endpoint=constants.ENDPOINT)
    secrets = {k: v for k, v in build_hf_headers(library_name="apr").items() if k.lower() == "authorization"}
    path, sha256 = download(Remote(url, secrets), folder, promise, what=name, progress=progress)
    return FetchedFile(_reference.safe_name(name.rpartition("/")[2]), path, sha256, path.stat().st_size)


def _from_hub_cache(source: HfSource, sha256: str | None) -> FetchedFile | None:
    """A file that huggingface_hub has fetched before, if its bytes have the digest.

    sha256:  None: the digest that the hub's cache keeps as the name of the blob (LFS files only)
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source.repo, source.file or "", revision=source.revision)
    if not isinstance(found, str | os.PathLike):
        return None
    blob = Path(found).resolve()
    expected = sha256 or (blob.name if _SHA256.fullmatch(blob.name) else None)
    if expected is None or not blob.is_file() or _integrity.sha256_of(blob) != expected:
        return None
    return FetchedFile(_reference.file_name(source), blob, expected, blob.stat().st_size, borrowed=True)


def _first_line(error: BaseException) -> str:
    """The first line of a message that may have several, without its final full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
