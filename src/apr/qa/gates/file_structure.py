"""Structure and checksums of the container."""

from __future__ import annotations

from collections.abc import Iterator

from apr.qa._subject import Subject
from apr.qa.gate import Finding, gate


@gate(
    severity="P0",
    profiles=("file",),
    rationale="A cut or altered file loads in lenient readers and writes nonsense.",
    source="the format's own rules: offsets, sizes, order, checksums",
)
def check(subject: Subject) -> Iterator[Finding]:
    """The reader accepted every offset and size; the checksums that the format has are right."""
    file = subject.file
    for warning in file.warnings:
        yield Finding("undecided", warning.code, warning.message)
    verified = file.verify()  # raises ChecksumMismatch, which the runner reports as a failure
    checked = "; ".join(verified) if verified else f"{file.format} has no checksums"
    yield Finding("pass", "structure", f"{len(file.tensors)} tensors within bounds; {checked}")
