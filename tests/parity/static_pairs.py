"""Pairs for the links that need no arithmetic: a healthy model of one format, and a copy that is operated on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from apr.engines._subject import Subject
from apr.parity._link import Finding, LinkResult
from apr.parity._pair import Pair
from mutants._patient import Patient, open_patient
from mutants.models import Stock

# the copy is held against another container, where there is one
OTHER = {"gguf": "safetensors", "safetensors": "gguf", "apr": "safetensors"}
Edit = Callable[[Patient], Any]


def subject(path: Path) -> Subject:
    """A file under our own engine, one thread."""
    return Subject(path, threads=1)


def operated(stock: Stock, folder: Path, site: str, edit: Edit) -> Path:
    """A copy of a healthy model, changed. site: "variant/format"."""
    variant, _, file_format = site.partition("/")
    patient = open_patient(stock.path(variant, file_format))
    edit(patient)
    return patient.save(folder / f"{variant}-{file_format}")


@contextmanager
def pair_of(stock: Stock, folder: Path, site: str, edit: Edit) -> Iterator[Pair]:
    """A healthy model of another format as the reference, and the changed copy as the candidate."""
    variant, _, file_format = site.partition("/")
    reference = stock.path(variant, OTHER[file_format])
    pair = Pair(subject(reference), subject(operated(stock, folder, site, edit)))
    try:
        yield pair
    finally:
        pair.close()


def found(link: ModuleType, pair: Pair) -> Finding:
    """The first finding of a link, once its counterfactual has shown that it is all there is to find."""
    result: LinkResult = link.compare(pair)
    assert result.verdict == "different", result.sentence
    again: LinkResult = link.compare(pair.with_candidate(link.force(pair, result.findings)))
    assert again.verdict == "same", again.sentence
    return result.findings[0]


def compared(link: ModuleType, reference: Path | Subject, candidate: Path | Subject) -> LinkResult:
    """One link between two files."""
    sides = [side if isinstance(side, Subject) else subject(side) for side in (reference, candidate)]
    pair = Pair(*sides)
    try:
        result: LinkResult = link.compare(pair)
        return result
    finally:
        pair.close()


def examined(link: ModuleType, path: Path) -> LinkResult:
    """One link of one file."""
    with subject(path) as one:
        result: LinkResult = link.examine(one)
        return result


def setting(key: str, value: Any) -> Edit:
    """Change a hyper-parameter."""
    return lambda patient: patient.set(key, value)


def dropped(key: str) -> Edit:
    """Take a hyper-parameter out."""
    return lambda patient: patient.drop(key)


def healthy(patient: Patient) -> None:
    """Change nothing."""
