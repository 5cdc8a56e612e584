"""Versions and the changelog of a contract: do they agree, and does an id that was retired stay so?"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from apr.ledger.contract import Change, Reading

_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")
_RETIRED_KEYS = ("removed", "retired", "withdrawn")
# FALSIFY-SHIP-005, AC-SHIP1-001, INV-GPUTRAIN-007
_ID = r"[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)*-\d+[A-Za-z]?"
_VERB = r"(?i:removed?|retired?|withdr(?:aw|awn|ew)|dropp?ed|deleted?|renamed)"
_BEFORE = re.compile(
    rf"\b{_VERB}[:\s]+(?:(?:the|falsification|falsifiers?|tests?|criteri(?:on|a)|ids?)\s+)*({_ID}(?:(?:,\s*|\s+and\s+|,\s*and\s+){_ID})*)"
)
# at the end of its clause: a test that "dropped to PARTIAL" is still there
_AFTER = re.compile(rf"({_ID})\s+(?:(?:was|is|has been)\s+)?{_VERB}(?=\s*(?:[.;,)]|$))")

Found = tuple[int, str, str]


def findings(reading: Reading) -> Iterator[Found]:
    """What a contract's version and changelog break."""
    contract, tree = reading.contract, reading.tree
    metadata = contract.raw.get("metadata")
    is_inside = isinstance(metadata, dict) and "version" in metadata
    line = tree.line("metadata", "version") if is_inside else tree.line("version")
    number = numbers(contract.version)
    if number is None:
        found = repr(contract.version) if contract.version else "missing"
        yield line, "APR-CON-010", f"the version is {found}; it is MAJOR.MINOR.PATCH, as in 1.4.0"
    yield from _agree(contract.version, contract.changelog, line)
    given = {test.id for test in contract.falsifications} | {one.id for one in contract.obligations}
    for change in contract.changelog:
        for name in retired(change, reading):
            if name in given:
                message = f"the id {name} was retired in {change.version or 'an earlier version'} and is used again; give the test a new one"
                at = next((t.line for t in contract.falsifications if t.id == name), change.line)
                yield at, "APR-CON-006", message


def numbers(version: str) -> tuple[int, int, int] | None:
    """Of a semantic version; None if it is none."""
    found = _SEMVER.fullmatch(version.strip())
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def newest(changelog: Sequence[Change]) -> Change | None:
    """The entry that stands at the end where versions go up: last, or first in a log that is written downwards."""
    if not changelog:
        return None
    first, last = numbers(changelog[0].version), numbers(changelog[-1].version)
    return changelog[0] if first is not None and last is not None and first > last else changelog[-1]


def retired(change: Change, reading: Reading) -> list[str]:
    """The ids that an entry takes out of use: under `removed:`, or in a sentence that says so."""
    raw = reading.contract.raw
    metadata = raw.get("metadata")
    log = metadata.get("changelog") if isinstance(metadata, dict) else None
    log = raw.get("changelog") if log is None else log
    names: list[str] = []
    for i, entry in enumerate(log if isinstance(log, list) else ()):
        if reading.contract.changelog[i] is change and isinstance(entry, dict):
            for key in _RETIRED_KEYS:
                given = entry.get(key)
                names += [given] if isinstance(given, str) else map(str, given) if isinstance(given, list) else []
    for found in _BEFORE.finditer(change.text):
        names += re.findall(_ID, found[1])
    names += [found[1] for found in _AFTER.finditer(change.text)]
    return list(dict.fromkeys(names))


def _agree(version: str, changelog: Sequence[Change], line: int) -> Iterator[Found]:
    last = newest(changelog)
    if last is None:
        yield line, "APR-CON-011", "there is no changelog; every version has an entry of its own"
        return
    if last.version != version:
        said = last.version or "no version"
        yield (
            last.line,
            "APR-CON-011",
            f"the newest entry is of {said} and the contract's version is {version or 'missing'}",
        )
    seen = [(numbers(change.version), change) for change in changelog]
    ordered = list(reversed(seen)) if last is changelog[0] and len(changelog) > 1 else seen
    for (before, _), (after, change) in itertools.pairwise(ordered):
        if before is not None and after is not None and after <= before:
            yield (
                change.line,
                "APR-CON-011",
                f"the entry of {change.version} follows a version that is not lower; versions go up",
            )
