"""What follows from the declared field, and what is a confound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import scripted
from apr.engines._record import RunRecord
from apr.engines._subject import Subject
from apr.ledger import _differences
from apr.ledger._differences import Differences
from apr.ledger.prediction import SETTINGS, VARIABLE
from apr.parity.records import CONDITIONS
from ledger import predictions


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunRecord, RunRecord]]:
    """The question through the template, and raw."""
    path = scripted.write(tmp_path_factory.mktemp("model"))
    script = scripted.Script(
        path, {scripted.chat(predictions.QUESTION): " 4", scripted.raw(predictions.QUESTION): " 4"}
    )
    with Subject(path, loader=script.loader(), threads=1) as subject:
        model = subject.language_model
        yield (
            model.generate(predictions.QUESTION, regime="chat", max_tokens=8),
            model.generate(predictions.QUESTION, regime="raw", max_tokens=8),
        )


def named(found: Differences, kind: str) -> dict[str, str | None]:
    return {d.field: d.follows_from for d in found.all if d.kind == kind}


def test_every_setting_has_what_follows_from_it_and_every_field_is_one_that_records_compare() -> None:
    assert set(_differences.FOLLOWS) == set(VARIABLE)
    compared = {name for names in CONDITIONS.values() for name in names}
    assert {name for names in _differences.FOLLOWS.values() for name in names} <= compared
    assert "weights" not in SETTINGS


def test_other_ids_follow_from_another_regime(tmp_path: Path, records: tuple[RunRecord, RunRecord]) -> None:
    found, compared = _differences.between_records(predictions.one(tmp_path), *records)
    assert named(found, "declared") == {"regime": None}
    assert set(named(found, "consequence")) == {"template.decision", "prompt_text", "prompt_token_ids"}
    assert found.refusal is None and compared.verdict == "same"


def test_a_second_setting_is_a_confound_and_takes_what_follows_from_it(
    tmp_path: Path, records: tuple[RunRecord, RunRecord]
) -> None:
    one = predictions.one(tmp_path, experiment={"prompt": "What is 3+1?", "max_tokens": 9})
    found, compared = _differences.between_records(one, records[0], replace(records[1], max_tokens=9))
    assert named(found, "consequence") == {"template.decision": "regime"}
    assert named(found, "confound") == {
        "prompt": None,
        "prompt_text": "prompt",
        "prompt_token_ids": "prompt",
        "max_tokens": "max_tokens",
    }
    assert found.refusal == "the runs differ in more than regime: prompt, max_tokens"
    assert compared.verdict == "not_comparable"
    values = {(d.field, d.control, d.experiment) for d in found.confounds}
    assert ("max_tokens", 8, 9) in values and ("prompt", predictions.QUESTION, "What is 3+1?") in values


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_sha256", "0" * 64),
        ("engine", "legacy"),
        ("activations", "int8"),
        ("stop_token_ids", (1,)),
        ("tokenizer_sha256", "0" * 64),
        ("threads", 7),
        ("environment", {"APR_ISA": "portable"}),
    ],
)
def test_what_no_setting_explains_is_a_confound(
    tmp_path: Path, records: tuple[RunRecord, RunRecord], field: str, value: object
) -> None:
    planted = replace(records[1], **{field: value})  # type: ignore[arg-type]
    found, _ = _differences.between_records(predictions.one(tmp_path), records[0], planted)
    (confound,) = found.confounds
    assert confound.field.startswith(field) and confound.follows_from is None
    assert found.refusal is not None and confound.field in found.refusal


def test_the_weights_alone_do_not_bring_another_tokenizer_and_the_file_does(
    tmp_path: Path, records: tuple[RunRecord, RunRecord]
) -> None:
    other = replace(records[0], model_sha256="0" * 64, tensors_sha256="1" * 64, tokenizer_sha256="2" * 64)
    runs = {"regime": "chat", "model": "other.gguf"}
    for varies, confounds in (("model", []), ("weights", ["tokenizer_sha256"])):
        one = predictions.one(tmp_path, experiment=runs, varies=varies)
        found, _ = _differences.between_records(one, records[0], other)
        assert [d.field for d in found.confounds] == confounds


def test_other_activations_do_not_follow_from_another_model(
    tmp_path: Path, records: tuple[RunRecord, RunRecord]
) -> None:
    other = replace(records[0], model_sha256="0" * 64, activations="int8")
    one = predictions.one(tmp_path, experiment={"regime": "chat", "model": "other.gguf"}, varies="model")
    found, _ = _differences.between_records(one, records[0], other)
    assert [d.field for d in found.confounds] == ["activations"]


def test_a_declared_field_that_does_not_vary_is_refused(tmp_path: Path, records: tuple[RunRecord, RunRecord]) -> None:
    alike = predictions.one(tmp_path, experiment={"regime": "chat"})
    assert _differences.between_settings(alike).refusal == "regime is declared to vary, and is the same in both runs"
    # auto and chat are two words for what happened in both
    one = predictions.one(tmp_path, experiment={"regime": "auto"})
    assert _differences.between_settings(one).refusal is None
    found, _ = _differences.between_records(one, records[0], records[0])
    assert found.refusal == "regime is declared to vary, and is the same in both runs"


def test_the_settings_alone_show_the_confounds_of_section_61(tmp_path: Path) -> None:
    one = predictions.one(tmp_path, experiment={"engine": "numpy", "prompt": "def fib(n):", "max_tokens": 128})
    assert [d.field for d in _differences.between_settings(one).confounds] == ["prompt", "engine", "max_tokens"]


@pytest.mark.parametrize("varies", ["model", "weights", "container", "engine", "regime", "prompt"])
def test_precision_follows_from_nothing_but_activations(varies: str) -> None:
    assert not set(_differences.FOLLOWS[varies]) & set(CONDITIONS["precision"])
    assert _differences.FOLLOWS["activations"] == CONDITIONS["precision"]
