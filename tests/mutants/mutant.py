"""What a mutant and a healthy pair are, and the ward where they are made."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apr.engines._subject import Subject
from mutants._patient import Patient, open_patient
from mutants.models import Stock

# the copy that a candidate of each format is held against: another container, where there is one
REFERENCE_FORMAT = {"gguf": "safetensors", "safetensors": "gguf", "apr": "safetensors"}


@dataclass(frozen=True)
class Answer:
    """What the instrument said of a pair."""

    verdict: str
    benign: bool
    exit_code: int
    link: str | None
    cause: str | None
    where: Mapping[str, Any]
    sentence: str
    seconds: float


@dataclass(frozen=True)
class Planted:
    """A pair on its way to the judge.

    where:  what only the planter knows of the place
    ask:    the instrument, where it is not `why`
    """

    reference: Subject
    candidate: Subject
    where: Mapping[str, Any] = field(default_factory=dict)
    ask: Callable[[], Answer] | None = None


@dataclass
class Ward:
    """Where healthy models are found and sick ones are made."""

    stock: Stock
    scratch: Path
    threads: int = 1

    def healthy(self, variant: str, file_format: str, *, codec: str = "f32") -> Path:
        """A healthy model on disk. Real models go by their alias and are what they are."""
        if variant in REAL:
            from apr import hub

            return hub.resolve(variant)
        return self.stock.path(variant, file_format, codec=codec)

    def subject(self, path: Path, **options: Any) -> Subject:
        """A subject of a local path."""
        return Subject(path, **({"threads": self.threads} | options))

    def folder(self, name: str) -> Path:
        """A new folder for one candidate."""
        folder = self.scratch / name.replace("/", "-").replace(":", "-")
        shutil.rmtree(folder, ignore_errors=True)
        return folder


REAL = ("smollm2", "qwen2.5-coder:0.5b")
Plant = Callable[[Ward, "Mutant"], Planted]
Edit = Callable[[Patient], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Mutant:
    """One defect.

    variant:  of `models.VARIANTS`, or the alias of a real model
    causes:   the words that name it rightly; more than one only with a `reason`
    where:    what the report must say of the place: a value, a number (compared closely), or a set of values
    links:    where it may be found
    codec:    of the healthy file that is operated on
    """

    group: str
    name: str
    variant: str
    format: str
    plant: Plant
    causes: frozenset[str]
    where: Mapping[str, Any] = field(default_factory=dict)
    links: frozenset[str] = frozenset()
    reason: str = ""
    codec: str = "f32"

    def __post_init__(self) -> None:
        assert len(self.causes) == 1 or self.reason, f"{self.id}: more than one cause needs a reason"

    @property
    def id(self) -> str:
        """group.name/variant/format"""
        return f"{self.group}.{self.name}/{self.variant}/{self.format}"

    @property
    def cause(self) -> str:
        """The first of the causes, for tables."""
        return min(self.causes)

    @property
    def is_real(self) -> bool:
        """Whether it is planted in a real model."""
        return self.variant in REAL


@dataclass(frozen=True)
class Healthy:
    """A pair in which nothing is wrong."""

    group: str
    name: str
    variant: str
    make: Make

    @property
    def id(self) -> str:
        """healthy.group.name/variant"""
        return f"healthy.{self.group}.{self.name}/{self.variant}"

    @property
    def is_real(self) -> bool:
        """Whether it is a real model."""
        return self.variant in REAL


Make = Callable[[Ward, Healthy], Planted]


def each(name: str, variants: Sequence[str], make: Make) -> list[Healthy]:
    """One pair of a kind for every variant. name: group.name"""
    group, _, short = name.partition(".")
    return [Healthy(group, short, variant, make) for variant in variants]


def surgery(edit: Edit) -> Plant:
    """A planter that changes parts of the file."""

    def plant(ward: Ward, mutant: Mutant) -> Planted:
        patient = open_patient(ward.healthy(mutant.variant, mutant.format, codec=mutant.codec))
        where = edit(patient) or {}
        path = patient.save(ward.folder(mutant.id))
        return Planted(reference_of(ward, mutant), ward.subject(path), where)

    return plant


def damage(edit: Callable[[Path], None]) -> Plant:
    """A planter that changes the bytes of the finished file: the container, or the folder's `model.safetensors`."""

    def plant(ward: Ward, mutant: Mutant) -> Planted:
        healthy = ward.healthy(mutant.variant, mutant.format, codec=mutant.codec)
        folder = ward.folder(mutant.id)
        if healthy.is_dir():
            shutil.copytree(healthy, folder)
            path, target = folder, folder / "model.safetensors"
        else:
            folder.mkdir(parents=True)
            path = target = folder / healthy.name
            shutil.copyfile(healthy, path)
        edit(target)
        return Planted(reference_of(ward, mutant), ward.subject(path))

    return plant


def reference_of(ward: Ward, mutant: Mutant) -> Subject:
    """The healthy copy that a mutant is held against."""
    if mutant.is_real:
        return ward.subject(ward.healthy(mutant.variant, mutant.format))
    return ward.subject(ward.healthy(mutant.variant, REFERENCE_FORMAT[mutant.format]))


def agrees(expected: Any, found: Any) -> bool:
    """Whether a reported place is the expected one; of several places reported, one is enough."""
    if isinstance(found, frozenset):
        return any(agrees(expected, value) for value in found)
    if isinstance(expected, frozenset | set):
        return any(agrees(value, found) for value in expected)
    if isinstance(expected, float) and isinstance(found, int | float):
        return math.isclose(expected, found, rel_tol=1e-4)
    return bool(expected == found)


def planted(
    name: str,
    sites: str,
    plant: Plant,
    causes: str,
    *,
    where: Mapping[str, Any] | None = None,
    links: str = "",
    reason: str = "",
    codec: str = "f32",
) -> list[Mutant]:
    """One defect at several sites.

    name:    "group.name"
    sites:   "variant/format variant/format"
    causes:  words, apart by blanks
    """
    group, _, short = name.partition(".")
    return [
        Mutant(
            group=group,
            name=short,
            variant=site.rpartition("/")[0],
            format=site.rpartition("/")[2],
            plant=plant,
            causes=frozenset(causes.split()),
            where=where or {},
            links=frozenset(links.split()),
            reason=reason,
            codec=codec,
        )
        for site in sites.split()
    ]
