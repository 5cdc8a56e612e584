"""What is written is an in-toto Statement, to others too; what is read follows from the run or is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apr.errors import FormatError
from apr.ledger import _statement
from apr.ledger._statement import Begun, Pinned
from apr.ledger._subject import Subject
from evidence_runs import CONTRACT, verdict

PATH = Path("x.intoto.json")
MODEL = Subject("m.gguf", "d/m.gguf", "gguf", {"m.gguf": "12" * 32}, "34" * 32, 20)
ORIGINAL = Subject("o", "d/o", "safetensors", {"config.json": "56" * 32, "o.safetensors": "78" * 32}, "9a" * 32, 20)
BEGUN = Begun(
    id="20260102T030405Z-0a1b2c3d",
    started_at="2026-01-02T03:04:05Z",
    model=MODEL,
    reference=ORIGINAL,
    contracts=(Pinned(CONTRACT.id, CONTRACT.version, CONTRACT.sha256, str(CONTRACT.path)),),
    command=("apr", "verify", "d/m.gguf"),
    engines={"native": "0.1.0"},
    versions={"apr": "0.1.0"},
    machine={"cpu": "a processor", "cores": 2},
)
TESTS = (
    verdict("A"),
    verdict("B", "fail"),
    verdict("C", "undecided"),
    verdict("D", "error"),
    verdict("E", "not_runnable"),
)


def made(*tests: _statement.Tested) -> bytes:
    return _statement.make(BEGUN, tests, finished_at="2026-01-02T03:05:06Z", ended="finished")


def test_what_is_written_is_read_back() -> None:
    record = _statement.read(PATH, made(*TESTS))
    assert record.begun == BEGUN and record.tests == TESTS and record.result == "FAILED"


def test_the_fields_are_those_of_the_specification() -> None:
    statement = json.loads(made(*TESTS))
    assert list(statement) == ["_type", "subject", "predicateType", "predicate"]
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    allowed = {"result", "configuration", "url", "passedTests", "warnedTests", "failedTests"}
    assert set(statement["predicate"]) <= allowed
    descriptors = [*statement["subject"], *statement["predicate"]["configuration"]]
    known = {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
    assert all(set(descriptor) <= known and descriptor["digest"]["sha256"] for descriptor in descriptors)
    names = [descriptor["name"] for descriptor in statement["subject"]]
    assert names == ["m.gguf", "m.gguf#tensors"] and len(set(names)) == len(names)


def test_only_a_pass_is_passed_and_nothing_is_passed_with_warnings() -> None:
    predicate = json.loads(made(*TESTS))["predicate"]
    assert predicate["passedTests"] == ["qwen-ship-v1/A"]
    assert predicate["warnedTests"] == []
    assert predicate["failedTests"] == ["qwen-ship-v1/B", "qwen-ship-v1/D"]


@pytest.mark.parametrize(
    ("statuses", "result"),
    [
        (["pass", "pass"], "PASSED"),
        (["pass", "fail"], "FAILED"),
        (["pass", "error"], "FAILED"),
        (["pass", "undecided"], "WARNED"),
        (["pass", "not_runnable"], "WARNED"),
        (["undecided", "not_runnable"], "FAILED"),
        ([], "FAILED"),
    ],
)
def test_the_result_is_never_better_than_what_was_shown(statuses: list[Any], result: str) -> None:
    assert _statement.result_of([verdict(str(i), status) for i, status in enumerate(statuses)]) == result


def test_the_protobufs_of_in_toto_parse_it_without_an_unknown_field() -> None:
    json_format = pytest.importorskip("google.protobuf.json_format")
    pytest.importorskip("in_toto_attestation")
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    document = json.loads(made(*TESTS))
    message = json_format.ParseDict(document, statement_pb2.Statement())
    Statement.copy_from_pb(message).validate()
    predicate = json_format.ParseDict(document["predicate"], test_result_pb2.TestResult())
    assert predicate.result == "FAILED" and list(predicate.passed_tests) == ["qwen-ship-v1/A"]
    assert json_format.MessageToDict(message)["subject"] == document["subject"]
    with pytest.raises(json_format.ParseError):  # the oracle does see a field that is not of the specification
        json_format.ParseDict(document["predicate"] | {"skippedTests": []}, test_result_pb2.TestResult())


def test_a_number_that_is_not_finite_is_null() -> None:
    odd = replace(verdict(), document={"x": float("nan")})
    assert _statement.read(PATH, made(odd)).tests[0].document == {"x": None}


def test_half_a_character_that_a_model_wrote_does_not_lose_the_run() -> None:
    odd = replace(verdict(), sentence="wrote \ud83d", document={"text": ["\ud83d x", "\U0001f600"], "\udc00": 1})
    read = _statement.read(PATH, made(odd)).tests[0]
    assert read.sentence == "wrote \ufffd" and read.document == {"text": ["\ufffd x", "\U0001f600"], "\ufffd": 1}


def _result(document: Any) -> None:
    document["predicate"]["result"] = "PASSED"


def _list(document: Any) -> None:
    document["predicate"]["passedTests"].append("qwen-ship-v1/B")


def _verdict(document: Any) -> None:
    document["predicate"]["configuration"][-1]["annotations"]["apr_document"]["status"] = "pass"


def _verdict_with_digest(document: Any) -> None:
    descriptor = document["predicate"]["configuration"][-1]
    descriptor["annotations"]["apr_document"]["status"] = "pass"
    descriptor["digest"]["sha256"] = _statement.sha256(_statement.canonical(descriptor["annotations"]["apr_document"]))


def _subject(document: Any) -> None:
    document["subject"][0]["digest"]["sha256"] = "00" * 32


def _contract(document: Any) -> None:
    document["predicate"]["configuration"][0]["digest"]["sha256"] = "00" * 32


def _begun(document: Any) -> None:
    descriptor = next(d for d in document["predicate"]["configuration"] if d["name"] == "run")
    run = descriptor["annotations"]["apr_document"]
    run["begun"]["command"] = ["true"]
    descriptor["digest"]["sha256"] = _statement.sha256(_statement.canonical(run))


def _type(document: Any) -> None:
    document["_type"] = "https://in-toto.io/Statement/v0.1"


def _more(document: Any) -> None:
    document["predicate"]["skippedTests"] = []


def _no_run(document: Any) -> None:
    document["predicate"]["configuration"] = [d for d in document["predicate"]["configuration"] if d["name"] != "run"]


def _no_subject(document: Any) -> None:
    del document["subject"]


def _status(document: Any) -> None:
    _verdict(document)
    descriptor = document["predicate"]["configuration"][-1]
    descriptor["annotations"]["apr_document"]["status"] = "fine"
    descriptor["digest"]["sha256"] = _statement.sha256(_statement.canonical(descriptor["annotations"]["apr_document"]))


DAMAGES = (
    _result, _list, _verdict, _verdict_with_digest, _subject, _contract, _begun, _type, _more, _no_run, _no_subject, _status,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_statement_that_does_not_follow_from_its_run_is_refused(damage: Callable[[Any], None]) -> None:
    document = json.loads(made(*TESTS))
    damage(document)
    with pytest.raises(FormatError):
        _statement.read(PATH, json.dumps(document).encode())


def test_a_document_and_what_was_fixed_are_each_held_against_their_own_digest() -> None:
    for damage, said in (
        (_verdict, "qwen-ship-v1/E: digest .* it was changed after"),
        (_begun, "fixed before the run is not"),
    ):
        document = json.loads(made(*TESTS))
        damage(document)
        with pytest.raises(FormatError, match=said):
            _statement.read(PATH, json.dumps(document).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{", b"\xff\xfe", b"[" * 10_000, made(TESTS[0])[:-200]])
def test_what_is_no_statement_is_refused(content: bytes) -> None:
    with pytest.raises(FormatError):
        _statement.read(PATH, content)
