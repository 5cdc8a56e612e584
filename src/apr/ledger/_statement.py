"""One run as an in-toto Statement with the test-result predicate: what is written, and the strict reading of it.

The forms are those of in-toto attestation v1.1 (spec/v1/statement.md, resource_descriptor.md, digest_set.md) and of
test-result v0.1 (spec/predicates/test-result.md). What those have no field for stands in the annotations of a
configuration's descriptor, `apr_document`, and the descriptor's digest is the SHA-256 of that document's canonical JSON.

The predicate knows passed, passed with warnings, and failed. `pass` is passed; `fail` and `error` are failed; `undecided` and
`not_runnable` stand in no list, because a verifier may take each entry of `warnedTests` as passed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

from apr.errors import BadMetadata, FormatError
from apr.ledger._subject import Subject

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
MEDIA_TYPE = "application/vnd.in-toto+json"  # spec/v1/envelope.md
MAX_BYTES = 64 << 20
TENSORS = "tensors"

Status = Literal["pass", "fail", "undecided", "error", "not_runnable"]
Result = Literal["PASSED", "WARNED", "FAILED"]
STATUSES: tuple[Status, ...] = ("pass", "fail", "undecided", "error", "not_runnable")
Ended = Literal["finished", "abandoned"]


@dataclass(frozen=True, slots=True)
class Tested:
    """One falsification test that was run, or that could not be.

    id:               of the test
    contract_id:      the contract that it belongs to
    contract_sha256:  of the contract's bytes
    status:           pass, fail, undecided, error or not_runnable
    sentence:         what was found
    command:          what was run, as words
    observed:         the values that were judged
    interval:         [low, high] of what was judged; null if there is none
    document:         the whole JSON that the check left
    seconds:          wall time
    """

    id: str
    contract_id: str
    contract_sha256: str
    status: Status
    sentence: str
    command: tuple[str, ...]
    observed: Mapping[str, Any]
    interval: tuple[float, float] | None
    document: Mapping[str, Any]
    seconds: float

    @property
    def name(self) -> str:
        """Its name in a Statement: unique where two contracts use the same id."""
        return f"{self.contract_id}/{self.id}"


@dataclass(frozen=True, slots=True)
class Pinned:
    """A contract as it was before the run.

    id, version: as the contract says
    sha256:      of its bytes
    path:        where it lay
    """

    id: str
    version: str
    sha256: str
    path: str


@dataclass(frozen=True, slots=True)
class Begun:
    """What is fixed before anything runs.

    id:          of the run
    started_at:  UTC, ISO 8601
    model:       what is tested
    reference:   the original that it is held against; null if there is none
    contracts:   what it is tested for
    command:     the exact words of the command line
    engines:     name and version of what computes
    versions:    of the packages that take part
    machine:     processor, cores, memory_bytes, system
    """

    id: str
    started_at: str
    model: Subject
    reference: Subject | None
    contracts: tuple[Pinned, ...]
    command: tuple[str, ...]
    engines: dict[str, str]
    versions: dict[str, str]
    machine: dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Record:
    """A run, read from its Statement.

    begun:        what was fixed before
    begun_sha256: of the canonical JSON of that
    finished_at:  UTC, ISO 8601
    ended:        finished, or abandoned: interrupted or killed, with the tests that had been reported by then
    result:       PASSED, WARNED or FAILED, as the predicate has it
    tests:        what was found
    """

    begun: Begun
    begun_sha256: str
    finished_at: str
    ended: Ended
    result: Result
    tests: tuple[Tested, ...]


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no blanks, in ASCII: equal values have equal bytes."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def sha256(content: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def plain(value: Any) -> Any:
    """Dataclasses, tuples and paths as what JSON knows; a float that is not finite becomes null, half a surrogate pair U+FFFD."""
    from apr import _plain

    return _whole(_plain.plain(value))


def _whole(value: Any) -> Any:
    """The same with text that can be read back: a model may write half a character, and strict JSON refuses it."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


def result_of(tests: Sequence[Tested]) -> Result:
    """FAILED if a test failed or was in error, or none passed; PASSED if all passed; else WARNED: not all of it was shown."""
    found = {test.status for test in tests}
    if found & {"fail", "error"} or "pass" not in found:
        return "FAILED"
    return "PASSED" if found == {"pass"} else "WARNED"


def make(begun: Begun, tests: Sequence[Tested], *, finished_at: str, ended: Ended) -> bytes:
    """The Statement's bytes, indented for a reader, ASCII."""
    run = {"begun": plain(begun), "begun_sha256": sha256(canonical(begun)), "finished_at": finished_at, "ended": ended}
    configuration = [
        *(_of_contract(contract) for contract in begun.contracts),
        *(_files_of(begun.reference, kind="reference") if begun.reference is not None else ()),
        _described("run", "run", run),
        *(_described(test.name, "test", plain(test)) for test in tests),
    ]
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": _files_of(begun.model, kind="model"),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": result_of(tests),
            "configuration": configuration,
            "passedTests": [test.name for test in tests if test.status == "pass"],
            "warnedTests": [],
            "failedTests": [test.name for test in tests if test.status in ("fail", "error")],
        },
    }
    return (json.dumps(statement, indent=2, allow_nan=False) + "\n").encode("ascii")


def read(path: Path, content: bytes) -> Record:
    """The run that a Statement is about. Everything in it that is said twice must be the same.

    Raises FormatError: no JSON, another type, a document whose digest differs, lists that do not follow from the tests.
    """
    from apr.formats import _json

    statement = _json.parse_object(path, content, what="the statement", max_bytes=MAX_BYTES)
    for key, expected in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if statement.get(key) != expected:
            raise BadMetadata(
                path, f"{key} is {_json.shorten(statement.get(key))}, expected {expected!r}; this is no evidence"
            )
    try:
        record = _record(path, statement)
        again = json.loads(make(record.begun, record.tests, finished_at=record.finished_at, ended=record.ended))
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise BadMetadata(
            path, f"is no statement of apr ({type(exc).__name__}: {exc}); write it again by a new run"
        ) from exc
    for key in sorted({*statement, *again}):
        if again.get(key) != statement.get(key):
            raise BadMetadata(
                path, f"{key} does not follow from the run that it records; the file was not written by apr"
            )
    return record


def _record(path: Path, statement: Mapping[str, Any]) -> Record:
    predicate = statement["predicate"]
    documents: list[tuple[str, Any]] = []
    for descriptor in predicate["configuration"]:
        notes = descriptor["annotations"]
        if "apr_document" not in notes:
            continue
        found = sha256(canonical(notes["apr_document"]))
        if found != descriptor["digest"]["sha256"]:
            raise FormatError(
                path,
                f"{descriptor['name']}: digest {found} found, {descriptor['digest']['sha256']} expected; it was changed "
                "after it was written",
            )
        documents.append((notes["apr_kind"], notes["apr_document"]))
    (run,) = (document for kind, document in documents if kind == "run")
    begun = begun_of(run["begun"])
    if run["begun_sha256"] != sha256(canonical(begun)):
        raise FormatError(path, "what was fixed before the run is not what its digest says; it was changed afterwards")
    tests = tuple(tested_of(document) for kind, document in documents if kind == "test")
    if run["ended"] not in ("finished", "abandoned"):
        raise ValueError(f"ended is {run['ended']!r}")
    return Record(begun, run["begun_sha256"], run["finished_at"], run["ended"], predicate["result"], tests)


def begun_of(document: Mapping[str, Any]) -> Begun:
    """The inverse of `plain`. Raises KeyError, TypeError or ValueError if it is none."""
    values = {
        **document,
        "model": Subject(**document["model"]),
        "reference": Subject(**document["reference"]) if document["reference"] is not None else None,
        "contracts": tuple(Pinned(**contract) for contract in document["contracts"]),
        "command": tuple(document["command"]),
    }
    if set(values) != {field.name for field in fields(Begun)}:
        raise ValueError(f"fields {', '.join(sorted(values))}")
    return Begun(**values)


def tested_of(document: Mapping[str, Any]) -> Tested:
    """The inverse of `plain`. Raises KeyError, TypeError or ValueError if it is none."""
    interval = document["interval"]
    values = {
        **document,
        "command": tuple(document["command"]),
        "interval": cast("tuple[float, float]", tuple(interval)) if interval is not None else None,
    }
    if document["status"] not in STATUSES:
        raise ValueError(f"status is {document['status']!r}")
    return Tested(**values)


def _of_contract(contract: Pinned) -> dict[str, Any]:
    return {
        "name": contract.id,
        "digest": {"sha256": contract.sha256},
        "mediaType": "application/yaml",
        "annotations": {"apr_kind": "contract", "apr_version": contract.version, "apr_path": contract.path},
    }


def _files_of(subject: Subject, *, kind: str) -> list[dict[str, Any]]:
    """A descriptor a file, and one for the listing of the tensors."""
    prefix = "" if kind == "model" else f"{kind}: "
    made = [
        {"name": f"{prefix}{name}", "digest": {"sha256": digest}, "annotations": {"apr_kind": f"{kind}_file"}}
        for name, digest in subject.files.items()
    ]
    listing = {
        # no file of a model can have this name: it is no path
        "name": f"{prefix}{subject.name}#{TENSORS}",
        "digest": {"sha256": subject.tensors_sha256},
        "annotations": {"apr_kind": f"{kind}_tensors", "apr_n_tensors": subject.n_tensors},
    }
    return [*made, listing]


def _described(name: str, kind: str, document: Any) -> dict[str, Any]:
    return {
        "name": name,
        "digest": {"sha256": sha256(canonical(document))},
        "mediaType": "application/json",
        "annotations": {"apr_kind": kind, "apr_document": document},
    }
