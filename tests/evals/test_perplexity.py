"""Perplexity against its definition, every token once, and what it refuses to compare."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines._base import Span
from apr.engines._subject import Subject
from apr.errors import UsageError
from apr.evals import perplexity
from apr.evals._options import Options
from apr.evals._report import EvalReport

TEXT = "The quick brown fox jumps over the lazy dog, and then it does the same again; nobody knows why. " * 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("m"), "gguf")


@pytest.fixture
def options(model: Path, tmp_path: Path) -> Options:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    return Options(model=str(model), text=text, window=64, threads=1, activations="float32")


def value(report: EvalReport, name: str) -> float | None:
    (found,) = [score for score in report.scores if score.name == name]
    return found.value


@pytest.mark.parametrize(
    ("n", "window", "stride"), [(2, 8, None), (8, 8, 4), (9, 8, 4), (100, 16, 5), (100, 16, 15), (17, 2, 1)]
)
def test_every_token_but_the_first_is_predicted_once(n: int, window: int, stride: int | None) -> None:
    made = perplexity.windows(n, window=window, stride=stride)
    assert [i for w in made for i in range(w.first, w.end)] == list(range(1, n))
    assert all(w.start < w.first and w.end - w.start <= window for w in made)
    step = stride or window // 2
    assert all(w.first - w.start >= window - step for w in made[1:]), "the context that was promised"


@pytest.mark.parametrize(
    ("n", "window", "stride", "said"), [(1, 8, 4, "two are the least"), (9, 8, 8, "leaves no token")]
)
def test_what_cannot_be_predicted_is_refused(n: int, window: int, stride: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        perplexity.windows(n, window=window, stride=stride)


def test_the_figure_is_that_of_one_pass_over_the_text(options: Options, model: Path) -> None:
    found = perplexity.run(dataclasses.replace(options, window=256))
    with Subject.of(model, threads=1, activations="float32") as subject:
        ids = subject.tokenizer.with_bos(subject.tokenizer.encode(TEXT))
        session = subject.session
        logits = session.forward([Span(np.asarray(ids), session.new_cache())], rows="all").astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.exp(-np.mean(np.log(p[np.arange(len(ids) - 1), ids[1:]])))
    assert value(found, "perplexity") == pytest.approx(expected, rel=1e-9)
    assert found.settings["n_predicted"] == len(ids) - 1 and found.exit_code == 0


def test_a_model_against_itself_is_one_and_nothing(options: Options, model: Path) -> None:
    report = perplexity.run(dataclasses.replace(options, reference=str(model)))
    assert (value(report, "perplexity_ratio"), value(report, "kl_mean"), value(report, "top1_agreement")) == (
        1.0,
        0.0,
        1.0,
    )
    assert value(report, "perplexity") == value(report, "reference_perplexity")


def test_a_damaged_copy_is_worse_beyond_its_interval(options: Options, model: Path, tmp_path: Path) -> None:
    weights = tiny.tensors(tiny.config())
    weights["model.layers.0.mlp.down_proj.weight"] *= 8
    other = tiny.write(tmp_path / "other", "gguf", weights=weights)
    report = perplexity.run(dataclasses.replace(options, model=str(other), reference=str(model)))
    (kl,) = [score for score in report.scores if score.name == "kl_mean"]
    assert kl.interval is not None and kl.interval[0] > 0.01
    ratio = value(report, "perplexity_ratio")
    assert ratio is not None and ratio != 1.0


def test_a_limit_is_coverage(options: Options) -> None:
    score = perplexity.run(dataclasses.replace(options, limit=2)).scores[0]
    assert score.n == 2 and score.n_all > 3 and score.of == "chunks"


def test_another_tokenizer_cannot_be_compared(options: Options, tmp_path: Path) -> None:
    spec = tiny.spec()
    other = tiny.write(tmp_path / "o", "gguf", tokenizer=dataclasses.replace(spec, merges=spec.merges[1:]))
    report = perplexity.run(dataclasses.replace(options, reference=str(other)))
    assert report.exit_code == 5 and value(report, "perplexity_ratio") is None
    assert "read the text as other tokens" in report.scores[-1].note


def test_positions_without_a_number_are_not_left_out(options: Options) -> None:
    losses = perplexity.Losses(np.array([1.0, np.nan]), None, np.array([0, 0]), None)
    (score,) = perplexity._scores(losses, 1, 1, 0, "")
    assert score.value is None and "1 of 2 positions" in score.note


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b""], ids=["no text", "no UTF-8", "empty"])
def test_a_text_is_needed(options: Options, tmp_path: Path, content: bytes | None) -> None:
    text = None
    if content is not None:
        text = tmp_path / "bad"
        text.write_bytes(content)
    with pytest.raises(UsageError):
        perplexity.run(dataclasses.replace(options, text=text))
