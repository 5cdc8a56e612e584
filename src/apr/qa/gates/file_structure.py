"""Structure and checksums of the container."""

from __future__ import annotations

from collections.abc import Iterator

from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate

# What a reader mentions and what leaves every tensor where it was announced, and whole. Any other warning leaves the gate
# undecided: bytes after the end may be a cut second model, a shard or a split is not the model, an unknown flag or a
# signature changes what the bytes mean, a dialect without checksums could not be verified.
BENIGN = frozenset(
    {
        "apr.gap",  # bytes between sections or tensors that nobody reads
        "apr.padding",  # padding that is not zero
        "apr.reserved",  # header bytes without a meaning
        "apr.old-dtype",  # type numbers of an older writer, settled by the sizes
        "apr.metadata-empty",  # the gates that need metadata say so
        "total-size-differs",  # a count in an index, which old writers got wrong; every tensor was compared
        "tokenizer-model-only",  # the vocabulary gate says so
    }
)


@gate(
    severity="P0",
    profiles=("file", "smoke", "release"),
    rationale="A cut or altered file loads in lenient readers and writes nonsense.",
    source="the format's own rules: offsets, sizes, order, checksums",
)
def check(judged: Judged) -> Iterator[Finding]:
    """The reader accepted every offset and size; the checksums that the format has are right."""
    file = judged.file
    for warning in file.warnings:
        yield Finding("pass" if warning.code in BENIGN else "undecided", warning.code, warning.message)
    verified = file.verify()  # raises ChecksumMismatch, which the runner reports as a failure
    checked = "; ".join(verified) if verified else f"{file.format} has no checksums"
    yield Finding("pass", "structure", f"{len(file.tensors)} tensors within bounds; {checked}")
