"""A run record read back from a file: as it was, or refused with the place and the reason."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

import apr
import tiny
from apr.engines._record import RunRecord
from apr.errors import BadMetadata, FormatError, HostileFile
from apr.parity.records import compare_records, read_record
from apr.reports import json as report_json


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("APR_HOME", str(folder / "home"))
        with apr.load(tiny.write(folder, "gguf"), engine="fake", threads=1) as model:
            return model.generate("Hello", max_tokens=8, at_eos="ignore")


@pytest.fixture
def saved(record: RunRecord, tmp_path: Path) -> Path:
    report_json.save(record, tmp_path / "run.json")
    return tmp_path / "run.json"


def test_a_saved_record_reads_back_as_it_was(record: RunRecord, saved: Path) -> None:
    assert read_record(saved) == record
    assert compare_records(saved, record).verdict == "same"


def test_a_margin_that_is_not_finite_survives(record: RunRecord, tmp_path: Path) -> None:
    steps = (dataclasses.replace(record.steps[0], margin=math.inf, logprob=math.nan), *record.steps[1:])
    report_json.save(dataclasses.replace(record, steps=steps), tmp_path / "run.json")
    step = read_record(tmp_path / "run.json").steps[0]
    assert math.isinf(step.margin) and math.isnan(step.logprob)


def edited(path: Path, edit: Any) -> Path:
    document = json.loads(path.read_text(encoding="utf-8"))
    edit(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda d: d.pop("kv_cache"), "has no kv_cache; an older apr wrote it"),
        (lambda d: d["template"].pop("decision"), "has no template.decision"),
        (lambda d: d.update(new_field=1), "'new_field', which this version does not know"),
        (lambda d: d["steps"][2].update(top=[[1]]), r"steps\[2\]\.top\[0\] is \[1\], expected 2 values"),
        (lambda d: d["steps"][2].update(margin="x"), r"steps\[2\]\.margin is 'x', expected a number"),
        (lambda d: d.update(threads=True), "threads is True, expected an integer"),
        (lambda d: d.update(threads=1.5), r"threads is 1\.5, expected an integer"),
        (lambda d: d.update(threads=None), "threads is None, expected an integer"),
        (lambda d: d.update(model_sha256=5), "model_sha256 is 5, expected text"),
        (lambda d: d.update(prompt_token_ids={"0": 1}), "prompt_token_ids is .*, expected a list"),
        (lambda d: d.update(prompt_token_ids=[]), "the prompt has no token ids"),
        (lambda d: d.update(environment=[1]), "environment is .*, expected an object"),
        (lambda d: d.update(template="x"), "template is 'x', expected an object"),
        (lambda d: d.update(finish_reason="tired"), "finish_reason is 'tired', expected one of eos"),
        (lambda d: d["sampling"].update(temperature=-1), "sampling: temperature is -1"),
        (lambda d: d["output_token_ids"].append(7), "those of its steps .* the record was changed"),
        (lambda d: d.update(max_tokens=3), "has 8 tokens of at most 3"),
        (lambda d: d.update(schema="apr.run/2"), r"has the schema 'apr\.run/2', expected 'apr\.run/1'"),
    ],
)
def test_a_record_that_was_damaged_says_where(saved: Path, edit: Any, says: str) -> None:
    with pytest.raises(BadMetadata, match=says):
        read_record(edited(saved, edit))


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[1]", b"\xff", b'{"schema": NaN}', b'{"a":' * 100 + b"1" + b"}" * 100, b'{"a":1,"a":1}']
)
def test_a_file_that_is_no_record_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(data)
    with pytest.raises(FormatError, match=r"run\.json"):
        read_record(tmp_path / "run.json")


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.json"):
        with pytest.raises(HostileFile, match="expected a run record"):
            read_record(path)


def test_several_records_in_one_file_are_refused(saved: Path) -> None:
    saved.write_text(saved.read_text(encoding="utf-8") * 2, encoding="utf-8")
    with pytest.raises(BadMetadata, match="not JSON"):
        read_record(saved)
