"""Statuses of a contract and its tests: known words, and what each has to show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from apr.ledger._rules import CONTRACT_STATUSES, IN_PART, NEEDS_EVIDENCE, TEST_STATUSES, word
from apr.ledger.contract import Falsification, Reading

_TEST_KEYS = ("discharge_status", "status")
_EVIDENCE = (
    "evidence_discharged_by",
    "discharged_evidence",
    "evidence",
    "evidence_path",
    "evidence_file",
    "live_evidence",
)
_BLOCKS_ON = ("full_discharge_blocks_on", "partial_discharge_note")
# one word that is written as a path of a repository is; sentences and test names are evidence of another kind
_FILE = re.compile(r"(?:\.{0,2}/)?(?:[\w.-]+/)+[\w.-]*(?:\.(?:json|jsonl|md|txt|py|log|csv|html)|/)")
_FOLDERS_UP = 6

Found = tuple[int, str, str]


def findings(reading: Reading) -> Iterator[Found]:
    """What the statuses of a contract break."""
    contract, tree = reading.contract, reading.tree
    raw = contract.raw
    metadata = raw["metadata"] if isinstance(raw.get("metadata"), dict) else {}
    line = tree.line("metadata", "status") if "status" in metadata else tree.line("status")
    if not contract.status:
        yield line, "APR-CON-012", f"the contract has no status; one of {', '.join(sorted(CONTRACT_STATUSES))}"
    elif word(contract.status) not in CONTRACT_STATUSES:
        yield (
            line,
            "APR-CON-012",
            f"the status {contract.status!r} is not known; one of {', '.join(sorted(CONTRACT_STATUSES))}",
        )
    elif word(contract.status) in NEEDS_EVIDENCE:
        named = [*_named(metadata), *_named(raw), *(e for t in contract.falsifications for e in _named(t.fields))]
        if not named:
            yield (
                line,
                "APR-CON-013",
                f"the status is {contract.status}, and no evidence is named; write evidence_discharged_by:",
            )
        yield from _there([*_named(metadata), *_named(raw)], line, contract.path)
    for test in contract.falsifications:
        yield from _of_test(test, contract.path)


def _of_test(test: Falsification, path: Path) -> Iterator[Found]:
    key = next((key for key in _TEST_KEYS if isinstance(test.fields.get(key), str)), None)
    if key is None:
        return
    status = word(str(test.fields[key]))
    named = f"{test.id}: {key} is {test.fields[key]}"
    if status not in TEST_STATUSES | CONTRACT_STATUSES:
        yield test.line, "APR-CON-012", f"{named}, which is not known; one of {', '.join(sorted(TEST_STATUSES))}"
    elif status in NEEDS_EVIDENCE:
        evidence = _named(test.fields)
        if not evidence:
            yield test.line, "APR-CON-013", f"{named}, and no evidence is named; write evidence_discharged_by:"
        yield from _there(evidence, test.line, path)
    elif status in IN_PART:
        if test.fields.get("ship_blocking") is not True:
            yield test.line, "APR-CON-015", f"{named}, and it does not block; write ship_blocking: true"
        if not any(test.fields.get(key) for key in _BLOCKS_ON):
            yield (
                test.line,
                "APR-CON-015",
                f"{named}, and nothing says what is missing; write full_discharge_blocks_on:",
            )


def _named(fields: Mapping[str, Any]) -> list[str]:
    """The evidence that fields name, as text."""
    return [text for key in _EVIDENCE for text in _texts(fields.get(key))]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from filter(None, [value.strip()])
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)


def _there(evidence: list[str], line: int, path: Path) -> Iterator[Found]:
    """Files that are named and not there, beside the contract or in a folder above it."""
    above = [path.resolve().parent, *path.resolve().parents[1:_FOLDERS_UP]]
    for named in evidence:
        if _FILE.fullmatch(named) and not any((folder / named).exists() for folder in above):
            yield (
                line,
                "APR-CON-014",
                f"the evidence {named} is not there, neither beside the contract nor in a folder above it",
            )
