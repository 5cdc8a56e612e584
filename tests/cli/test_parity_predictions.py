"""`apr parity` with predictions that llama.cpp saved in the reference's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.engines._subject import Subject
from kld_file import logits_of, written


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("model"), "gguf")


@pytest.fixture(scope="module")
def base(model: Path) -> Path:
    tokens = np.random.default_rng(0).integers(0, 256, (4, 32), dtype=np.int32)
    with Subject(model, threads=1) as subject:
        return written(model.parent / "base.kld", tokens, lambda ids: logits_of(subject, ids), tiny.VOCAB_SIZE)


def test_the_model_itself_is_the_same_and_the_names_are_llama_cpps(apr_command: Any, base: Path, model: Path) -> None:
    done = apr_command("parity", base, model)
    assert done.exit_code == 0
    for name in ("Mean PPL(Q)", "Mean    KLD", "99.9%   KLD", "RMS Δp", "Same top p"):
        assert f"  {name} " in done.out
    assert "next: apr why" not in done.out


def test_a_rounded_copy_drifts_and_json_has_every_figure(
    apr_command: Any, base: Path, model: Path, tmp_path: Path
) -> None:
    copy = tiny.write(tmp_path / "copy", "gguf", codec="q4_0")
    done = apr_command("parity", base, copy, "--json", "--chunks", "3", "--html", tmp_path / "page.html")
    (link,) = done.json()["links"]
    assert done.exit_code == 5 and (link["link"], link["verdict"]) == ("logits", "cannot_tell")
    assert link["measure"]["n_chunks"] == 3 and link["measure"]["n_positions"] == 45
    assert link["measure"]["statistics"]["Mean    KLD"][0] > link["measure"]["floor"]
    assert "KLD" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{base}", "{model}", "--only", "logits"), "compared whole"),
        (("{base}", "{model}", "--under-test", "engine"), "two run records"),
        (("{model}", "{base}"), "next: apr parity"),
        (("{model}", "{model}", "--chunks", "2"), "--kl-divergence-base"),
    ],
)
def test_what_makes_no_sense_is_refused(
    apr_command: Any, base: Path, model: Path, words: tuple[str, ...], said: str
) -> None:
    done = apr_command("parity", *(word.format(base=base, model=model) for word in words))
    assert done.exit_code == 2 and said in done.err


def test_why_says_where_to_go(apr_command: Any, base: Path, model: Path) -> None:
    done = apr_command("why", base, model)
    assert done.exit_code == 2 and f"next: apr parity {base} MODEL" in done.err


def test_another_vocabulary_is_named(apr_command: Any, base: Path, tmp_path: Path) -> None:
    other = tiny.write(tmp_path / "other", "gguf", tiny.config("llama", vocab_size=384))
    done = apr_command("parity", base, other)
    assert done.exit_code == 2 and "not the same vocabulary" in done.err


def test_a_damaged_base_is_named(apr_command: Any, base: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.kld").write_bytes(base.read_bytes()[:-100])
    done = apr_command("parity", tmp_path / "cut.kld", model)
    assert done.exit_code == 3 and "not written to its end" in done.err
