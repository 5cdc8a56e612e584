"""Subjects: how they are named, and that a counterfactual changes one part and no other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines._subject import Subject, parse
from apr.errors import UsageError
from apr.models._decoder import Span


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny.write(tmp_path, "gguf", tiny.config("llama"))


def logits(subject: Subject) -> np.ndarray:
    session = subject.session
    return session.forward([Span(np.arange(5, 15), session.new_cache())], rows="all")


@pytest.mark.parametrize(
    ("text", "reference", "engine"),
    [
        ("smollm2", "smollm2", "native"),
        ("model.gguf@numpy", "model.gguf", "numpy"),
        ("hf://org/repo/file.gguf@main", "hf://org/repo/file.gguf@main", "native"),
        ("hf://org/repo/file.gguf@main@numpy", "hf://org/repo/file.gguf@main", "numpy"),
        ("@numpy", "@numpy", "native"),
    ],
)
def test_only_the_name_of_an_engine_after_an_at_sign_is_one(text: str, reference: str, engine: str) -> None:
    assert (parse(text).reference, parse(text).engine) == (reference, engine)


def test_a_file_whose_name_ends_like_an_engine_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m@numpy").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert parse("m@numpy").engine == "native"


def test_another_configuration_changes_what_is_computed_and_the_subject_itself_stays(path: Path) -> None:
    with Subject(path, threads=1) as subject:
        before, tokenizer = logits(subject), subject.tokenizer
        with subject.with_config(dataclasses.replace(subject.config, rope_theta=100.0)) as altered:
            assert altered.tokenizer is tokenizer
            assert not np.allclose(logits(altered), before)
        assert subject.file.raw("token_embd.weight").size  # the counterfactual has not closed what it borrowed
        assert np.array_equal(logits(subject), before)


def test_tensors_of_another_file_make_its_logits(path: Path, tmp_path: Path) -> None:
    made = tiny.config("llama")
    other_path = tiny.write(tmp_path / "other", "safetensors", made, tiny.tensors(made, seed=1))
    with Subject(path, threads=1) as subject, Subject(other_path, threads=1) as other:
        grafted = subject.with_tensors(dict(other.checkpoint.tensors))
        assert not np.array_equal(logits(subject), logits(other))
        assert np.array_equal(logits(grafted), logits(other))


def test_tensors_stay_grafted_under_another_configuration(path: Path, tmp_path: Path) -> None:
    made = tiny.config("llama")
    other_path = tiny.write(tmp_path / "other", "safetensors", made, tiny.tensors(made, seed=1))
    with Subject(path, threads=1) as subject, Subject(other_path, threads=1) as other:
        grafted = subject.with_tensors(dict(other.checkpoint.tensors)).with_config(other.config)
        assert np.array_equal(logits(grafted), logits(other))


def test_stop_ids_and_template_of_a_counterfactual_reach_what_generates(path: Path) -> None:
    with Subject(path, threads=1) as subject:
        assert subject.with_stop([3]).language_model.stop_token_ids == frozenset({3})
        assert subject.stop_token_ids != frozenset({3})


def test_the_numpy_engine_computes_the_same_model(path: Path) -> None:
    with Subject(path, threads=1) as subject, subject.on_engine("numpy") as by_numpy:
        assert by_numpy.session.engine == "numpy"
        assert np.allclose(logits(by_numpy), logits(subject), atol=1e-4)


def test_a_loader_takes_the_place_of_the_engines_own(path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise UsageError("planted")

    with Subject(path, loader=broken) as subject, pytest.raises(UsageError, match="planted"):  # type: ignore[arg-type]
        _ = subject.session


def test_a_raw_prompt_and_a_conversation_read_as_apr_run_reads_them(path: Path) -> None:
    with Subject(path, threads=1) as subject:
        run = subject.language_model.run([{"role": "user", "content": "Hi"}], max_tokens=1)
        rendered = subject.voice.render([{"role": "user", "content": "Hi"}])
        assert rendered == run.prompt.text
        assert tuple(subject.voice.encode_rendered(rendered)) == run.prompt.token_ids
        assert tuple(subject.voice.encode("Hi")) == subject.language_model.run("Hi", regime="raw").prompt.token_ids
