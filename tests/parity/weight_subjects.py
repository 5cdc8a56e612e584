"""Subjects of files, for the links' tests."""

from __future__ import annotations

from pathlib import Path

from apr.engines._subject import Subject
from apr.parity import weights
from apr.parity._link import LinkResult
from apr.parity._pair import Pair


def subject(path: Path) -> Subject:
    """A file under our own engine, one thread."""
    return Subject(path, threads=1)


def compared(reference: Path, candidate: Path) -> LinkResult:
    """The weights link between two files."""
    pair = Pair(subject(reference), subject(candidate))
    try:
        return weights.compare(pair)
    finally:
        pair.close()
