"""Until when evidence holds: until the model, a contract, or the major version of an engine is another."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import apr
from apr.ledger import _statement
from apr.ledger._subject import Subject

if TYPE_CHECKING:
    from apr.ledger.evidence import Entry

_PACKAGE_OF = {"llama-cpp": "xllamacpp", "llama-cpp-noflash": "xllamacpp", "transformers": "transformers"}


def expired(
    entry: Entry, *, subject: Subject, contracts: Mapping[str, str | None], engines: Mapping[str, str] | None = None
) -> str | None:
    """Why a run says nothing about a model and its contracts as they are now; None if it still holds.

    contracts:  SHA-256 by id, as they are now; None for one that is gone
    engines:    name and version as they are now; what is installed if nothing is said
    """
    record = entry.record
    if record.ended == "abandoned" and not record.tests:
        return "the run was abandoned, so nothing was found"
    if (said := _other_model(record.begun.model, subject)) is not None:
        return said
    for contract in record.begun.contracts:
        now = contracts.get(contract.id)
        if now is None:
            return f"the contract {contract.id} is not here, so nobody can tell whether it is the one that was tested"
        if now != contract.sha256:
            return f"the contract {contract.id} changed: {contract.sha256[:12]}… was tested, it is {now[:12]}… now"
    for name, version in record.begun.engines.items():
        current = engines.get(name) if engines is not None else installed(name)
        if current is None:
            return f"the engine {name} {version} is not here, so nobody can tell whether it still computes the same"
        if _major(current) != _major(version):
            return f"the engine {name} is {current} now, {version} was tested, and its major version differs"
    return None


def installed(engine: str) -> str | None:
    """The version of an engine as it is here; None if it is not."""
    package = _PACKAGE_OF.get(engine)
    if package is None:
        return apr.__version__ if engine in ("native", "numpy") else None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def contracts_now(entry: Entry) -> dict[str, str | None]:
    """SHA-256 of a run's contracts as they lie where they lay, by id; None for one that is gone."""
    found: dict[str, str | None] = {}
    for contract in entry.record.begun.contracts:
        path = Path(contract.path)
        found[contract.id] = _statement.sha256(path.read_bytes()) if path.is_file() else None
    return found


def _other_model(tested: Subject, now: Subject) -> str | None:
    if tested.files == now.files and tested.tensors_sha256 == now.tensors_sha256:
        return None
    if tested.tensors_sha256 == now.tensors_sha256:
        changed = [name for name in {**tested.files, **now.files} if tested.files.get(name) != now.files.get(name)]
        return (
            f"the file changed ({', '.join(changed)}), its tensors did not: it was packed anew, or its metadata differ"
        )
    return (
        f"the model changed: tensors {tested.tensors_sha256[:12]}… were tested, they are {now.tensors_sha256[:12]}… now"
    )


def _major(version: str) -> tuple[int, ...] | str:
    """Before 1.0 the second number is the major one: nothing else there may break (Semantic Versioning, 4)."""
    from packaging.version import InvalidVersion, Version

    try:
        release = (*Version(version).release, 0)
    except InvalidVersion:
        return version
    return release[:1] if release[0] else release[:2]
