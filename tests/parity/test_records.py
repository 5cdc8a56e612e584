"""Two run records: what must agree before outputs are compared, and what is compared then."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import apr
import tiny
from apr.engines._generate import Step
from apr.engines._record import RunRecord
from apr.engines._sampling import Sampling
from apr.errors import UsageError
from apr.parity import records
from apr.parity.records import CONDITIONS, compare_records


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("APR_HOME", str(folder / "home"))
        with apr.load(tiny.write(folder, "gguf"), engine="fake", threads=1) as model:
            return model.generate("Hello", max_tokens=8, at_eos="ignore")


def changed(record: RunRecord, **fields: Any) -> RunRecord:
    return dataclasses.replace(record, **fields)


def with_tokens(record: RunRecord, token_ids: list[int], **fields: Any) -> RunRecord:
    steps = tuple(Step(i, "x", -1.0, ((i, -1.0),), margin=0.25 + at, finish=None) for at, i in enumerate(token_ids))
    return changed(record, output_token_ids=tuple(token_ids), steps=steps, **fields)


# every condition -> (where it is, a value that differs)
PLANTED: dict[str, Any] = {
    "engine": "legacy",
    "engine_version": "0",
    "kernel_set": "other",
    "instruction_set": "avx2",
    "activations": "int8",
    "kv_cache": "float16",
    "model_format": "apr",
    "model_sha256": "0" * 64,
    "tensors_sha256": "0" * 64,
    "tokenizer_sha256": "0" * 64,
    "template.sha256": "0" * 64,
    "template.decision": "raw",
    "prompt_text": "other",
    "prompt_token_ids": (1, 2),
    "sampling.temperature": 0.5,
    "sampling.top_k": 3,
    "sampling.top_p": 0.5,
    "sampling.min_p": 0.5,
    "sampling.repetition_penalty": 1.1,
    "sampling.seed": 9,
    "max_tokens": 99,
    "stop_token_ids": (3,),
    "stop_strings": ("stop",),
    "threads": 7,
    "batch": 5,
    "cached_prompt_tokens": 2,
    "environment": {"APR_ISA": "generic"},
}


def planted(record: RunRecord, name: str) -> RunRecord:
    outer, _, inner = name.partition(".")
    if inner:
        return changed(record, **{outer: dataclasses.replace(getattr(record, outer), **{inner: PLANTED[name]})})
    return changed(record, **{name: PLANTED[name]})


def test_a_run_is_the_same_as_itself(record: RunRecord) -> None:
    found = compare_records(record, record)
    assert (found.verdict, found.cause, found.n_compared, found.differing) == ("same", None, 8, ())


@pytest.mark.parametrize("name", PLANTED)
def test_each_condition_that_differs_is_named_and_is_allowed_when_it_is_under_test(
    record: RunRecord, name: str
) -> None:
    other = planted(record, name)
    found = compare_records(record, other)
    named = "environment.APR_ISA" if name == "environment" else name
    assert (found.verdict, found.cause) == ("not_comparable", "harness")
    assert [d.field for d in found.differing] == [named] and named in found.sentence
    group = next(key for key, names in CONDITIONS.items() if name in names)
    for under_test in ((name,), (group,)):
        allowed = compare_records(record, other, under_test=under_test)
        assert (allowed.verdict, [d.field for d in allowed.varied]) == ("same", [named])
    elsewhere = next(key for key in CONDITIONS if key != group)
    assert compare_records(record, other, under_test=(elsewhere,)).verdict == "not_comparable"


def test_every_field_of_a_record_has_been_thought_about(record: RunRecord) -> None:
    """A field that is added to the record is a condition, an outcome or a label; nothing is left out in silence."""
    fields = set()
    for field in dataclasses.fields(RunRecord):
        value = getattr(record, field.name)
        inner = dataclasses.fields(value) if field.name in ("template", "sampling") else ()
        fields |= {f"{field.name}.{f.name}" for f in inner} or {field.name}
    conditions = [name for names in CONDITIONS.values() for name in names]
    assert sorted(fields) == sorted([*conditions, *records.OUTCOMES, *records.LABELS])
    assert sorted(PLANTED) == sorted(conditions)


def test_every_difference_is_named_and_not_the_first_alone(record: RunRecord) -> None:
    other = changed(planted(record, "engine"), prompt_token_ids=(1, 2, 3), max_tokens=512, stop_token_ids=(7,))
    found = compare_records(record, other, under_test=("model",))
    assert [d.field for d in found.differing] == ["engine", "prompt_token_ids", "max_tokens", "stop_token_ids"]
    assert "fake against legacy" in found.sentence and "against 3 values" in found.sentence


def test_outputs_that_agree_do_not_make_runs_comparable(record: RunRecord) -> None:
    found = compare_records(record, planted(record, "engine"))
    assert found.verdict == "not_comparable" and found.n_compared == 0


def test_names_clocks_and_where_things_are_do_not_matter(record: RunRecord) -> None:
    timings = dataclasses.replace(record.timings, decode_s=99.0)
    template = dataclasses.replace(record.template, source="elsewhere", reason="another")
    other = changed(
        record, timings=timings, template=template, model="/elsewhere/model.gguf", prompt_id="7",
        environment={"APR_HOME": "/elsewhere"},
    )  # fmt: skip
    assert compare_records(record, other).verdict == "same"


def test_a_hash_that_nobody_recorded_does_not_agree(record: RunRecord) -> None:
    unknown = changed(record, model_sha256=None)
    found = compare_records(unknown, unknown)
    assert found.verdict == "not_comparable" and "model_sha256 (recorded by neither)" in found.sentence
    assert compare_records(unknown, unknown, under_test=("model",)).verdict == "same"


def test_the_first_divergence_comes_with_both_margins(record: RunRecord) -> None:
    a, b = with_tokens(record, [5, 6, 7, 8]), with_tokens(record, [5, 6, 9, 8])
    found = compare_records(a, b)
    assert (found.verdict, found.cause, found.first_divergence) == ("different", None, 2)
    assert (found.reference_margin, found.candidate_margin) == (2.25, 2.25)
    assert "part at token 2: 7 against 9; margins there 2.25 and 2.25" in found.sentence


def test_where_one_ends_and_the_other_goes_on_they_differ(record: RunRecord) -> None:
    found = compare_records(with_tokens(record, [5, 6, 7]), with_tokens(record, [5, 6]))
    assert (found.verdict, found.first_divergence) == ("different", 2)
    assert (found.reference_margin, found.candidate_margin) == (2.25, None) and "7 against the end" in found.sentence


def test_an_interrupted_run_proves_a_difference_and_no_agreement(record: RunRecord) -> None:
    cut = with_tokens(record, [5, 6], finish_reason="interrupted")
    assert compare_records(with_tokens(record, [5, 6, 7]), cut).verdict == "cannot_tell"
    assert compare_records(with_tokens(record, [5, 9, 7]), cut).verdict == "different"


def test_two_runs_without_a_token_tell_nothing(record: RunRecord) -> None:
    assert compare_records(with_tokens(record, []), with_tokens(record, [])).verdict == "cannot_tell"


@pytest.mark.parametrize("fields", [{"text": "another"}, {"finish_reason": "eos"}])
def test_the_same_ids_with_another_text_or_end_are_different(record: RunRecord, fields: dict[str, Any]) -> None:
    found = compare_records(record, changed(record, **fields))
    assert found.verdict == "different" and next(iter(fields)) in found.sentence and found.first_divergence is None


def test_what_cannot_be_under_test_is_refused(record: RunRecord) -> None:
    with pytest.raises(UsageError, match=r"'timings' cannot be under test; known: .*engine"):
        compare_records(record, record, under_test=("timings",))


def test_two_real_runs_that_differ_in_one_thing_are_comparable_in_that_thing(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf")
    with apr.load(path, engine="fake", threads=1) as model:
        one = model.generate("Hello", max_tokens=8, sampling=Sampling(temperature=1.0, seed=1))
        two = model.generate("Hello", max_tokens=8, sampling=Sampling(temperature=1.0, seed=2))
        wrapped, raw = (model.generate("Hello", max_tokens=8, regime=r) for r in ("chat", "raw"))
    assert [d.field for d in compare_records(one, two).differing] == ["sampling.seed"]
    assert compare_records(one, two, under_test=("sampling",)).verdict == "different"
    # section 61's own mistake: a prompt that was wrapped beside one that was not
    fields = [d.field for d in compare_records(wrapped, raw).differing]
    assert fields == ["template.decision", "prompt_text", "prompt_token_ids"]
