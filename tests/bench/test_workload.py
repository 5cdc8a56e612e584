"""Prompts have the length that is asked for, as `apr run --raw` reads them; bytes are those of the tensors that a token reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import tiny
from apr.bench import _workload
from apr.engines._subject import Subject
from apr.tokenizer.tokenizer import Tokenizer


@pytest.mark.parametrize("length", [1, 2, 7, 32, 300])
def test_a_prompt_is_as_long_as_asked(length: int) -> None:
    tokenizer = Tokenizer(tiny.spec())
    assert _workload.token_count(tokenizer, _workload.prompt_of(tokenizer, length)) == length


def test_a_beginning_of_text_counts() -> None:
    spec = replace(tiny.spec(), add_bos=True, bos_token_id=tiny.spec().pad_token_id)
    tokenizer = Tokenizer(spec)
    ids = _workload.token_ids(tokenizer, _workload.prompt_of(tokenizer, 12))
    assert len(ids) == 12 and ids[0] == spec.bos_token_id


def test_a_length_that_no_cut_gives_takes_the_nearest() -> None:
    tokenizer = Tokenizer(tiny.spec())
    merged = "th" * 40  # every two bytes are one token: any cut of it is whole
    assert _workload.token_count(tokenizer, _workload.prompt_of(tokenizer, 9, text=merged)) in (8, 9, 10)


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_token_reads_everything_but_the_look_up(is_tied: bool, tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf", tiny.config(tie_word_embeddings=is_tied), codec="q8_0")
    with Subject(path) as subject:
        counts = _workload.bytes_by_codec(subject.checkpoint)
        values = _workload.values_by_codec(subject.checkpoint)
        in_file = sum(info.n_bytes for info in subject.file.tensors.values())
        embedding = subject.file.tensors["token_embd.weight"].n_bytes
    assert sum(counts.values()) == (in_file if is_tied else in_file - embedding)
    assert counts["q8_0"] * 32 == values["q8_0"] * 34 and counts["f32"] == 4 * values["f32"]
    assert next(iter(counts)) == "q8_0"


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", "qwen2.5-coder:0.5b"])
def test_real_tokenizers_give_exact_lengths(alias: str, real_model: Callable[[str], Path]) -> None:
    with Subject(real_model(alias)) as subject:
        for length in (1, 32, 128, 512):
            text = _workload.prompt_of(subject.tokenizer, length)
            assert _workload.token_count(subject.tokenizer, text) == length
