"""Link "file": can both files be opened, are their checksums right, and are they even two?

Everything behind this link reads tensors and metadata that a reader has checked; what the reader refuses is said here,
with its own code and the byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from apr.engines._subject import Subject
from apr.errors import (
    AprError,
    BadMagic,
    ForeignFormat,
    FormatError,
    HostileFile,
    LimitExceeded,
    UnsupportedError,
    UnsupportedVersion,
)
from apr.formats._base import ModelFile
from apr.parity._causes import Cause
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._pair import Pair

LINK = "file"
# these say "not a file that we read"; every other breach of a format is damage
_UNREADABLE = (BadMagic, ForeignFormat, UnsupportedVersion, HostileFile, LimitExceeded)
_CHUNK_BYTES = 1 << 24


def compare(pair: Pair) -> LinkResult:
    """Open both; verify the checksums that the candidate has; say whether the two are the same bytes.

    measure:  "identical", "first_different_byte" (None if the lengths differ), and of each side format, bytes, checksums
    """
    try:
        reference = pair.reference.file
    except (FormatError, UnsupportedError) as exc:
        return undecided(LINK, "not_comparable", f"the reference cannot be opened: {exc}")
    candidate = _opened(pair.candidate)
    if isinstance(candidate, Finding):
        return different(LINK, [candidate], {"identical": False})
    is_identical, first = _compared(reference, candidate)
    measure: dict[str, Any] = {
        "identical": is_identical,
        "first_different_byte": first,
        "reference": _census(reference),
        "candidate": _census(candidate),
    }
    if is_identical:
        return same(LINK, "the two files hold the same bytes", measure)
    checked = _verified(candidate)
    if isinstance(checked, Finding):
        return different(LINK, [checked], measure)
    measure["candidate"]["checksums"] = checked
    sentence = f"both files can be read: {_shape(reference)}, and {_shape(candidate)}"
    return same(LINK, sentence, measure)


def force(pair: Pair, findings: Sequence[Finding]) -> Subject:
    """The candidate's engine over the reference's file."""
    candidate = pair.candidate
    return pair.reference.on_engine(
        candidate.engine,
        name=f"{candidate.name} with the reference's file",
        loader=candidate.loader,
        threads=candidate.threads,
        activations=candidate.activations,
    )


def examine(subject: Subject) -> LinkResult:
    """One file by itself: it opens, and its checksums are right."""
    opened = _opened(subject)
    if isinstance(opened, Finding):
        return different(LINK, [opened])
    checked = _verified(opened)
    if isinstance(checked, Finding):
        return different(LINK, [checked], {"candidate": _census(opened)})
    measure = {"candidate": _census(opened) | {"checksums": checked}}
    guard = (
        "its checksums are right" if checked else "its format has no checksum, so damaged values would not show here"
    )
    return same(LINK, f"the file can be read ({_shape(opened)}); {guard}", measure)


def _opened(subject: Subject) -> ModelFile | Finding:
    """The file, or what is wrong with it. Raises UsageError and HubError: then there is nothing to judge."""
    try:
        return subject.file
    except (FormatError, UnsupportedError) as exc:
        return _finding(exc)


def _verified(file: ModelFile) -> list[str] | Finding:
    """What was checked, or what is wrong."""
    try:
        return file.verify()
    except FormatError as exc:
        return _finding(exc)


def _finding(exc: AprError) -> Finding:
    is_foreign = isinstance(exc, (*_UNREADABLE, UnsupportedError))
    cause: Cause = "file.unreadable" if is_foreign else "file.corrupt"
    where: dict[str, Any] = {"code": exc.code}
    if isinstance(exc, FormatError):
        where |= {"offset": exc.offset, "path": str(exc.path)}
    what = "cannot be read as a model" if is_foreign else "is damaged"
    return Finding(cause, f"the candidate's file {what}: {exc}", where)


def _census(file: ModelFile) -> dict[str, Any]:
    return {
        "format": file.format,
        "bytes": file.size_bytes,
        "n_tensors": len(file.tensors),
        "warnings": [warned.code for warned in file.warnings],
    }


def _shape(file: ModelFile) -> str:
    return f"{file.format}, {len(file.tensors)} tensors, {file.size_bytes:,} bytes"


def _compared(reference: ModelFile, candidate: ModelFile) -> tuple[bool, int | None]:
    """Whether two models are the same bytes, side files included, and the first byte that differs in files of one length."""
    if reference.path.samefile(candidate.path):
        return True, None
    paths = list(zip(reference.files, candidate.files, strict=False))
    sizes = [(path.stat().st_size, other.stat().st_size) for path, other in paths]
    if len(reference.files) != len(candidate.files) or any(mine != theirs for mine, theirs in sizes):
        return False, None
    for (path, other), (size, _) in zip(paths, sizes, strict=True):
        left, right = reference.map(path), candidate.map(other)
        for start in range(0, size, _CHUNK_BYTES):
            n_bytes = min(_CHUNK_BYTES, size - start)
            mine, theirs = left.bytes_at(start, n_bytes), right.bytes_at(start, n_bytes)
            if not np.array_equal(mine, theirs):
                return False, start + int(np.flatnonzero(mine != theirs)[0])
    return dict(reference.documents) == dict(candidate.documents), None
