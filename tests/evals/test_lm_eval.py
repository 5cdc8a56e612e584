"""lm-evaluation-harness's questions, answered by our engine; the harness itself where it is installed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines._base import Span
from apr.engines._language_model import LanguageModel, load
from apr.errors import MissingDependency, UsageError
from apr.evals import lm_eval
from apr.evals._options import Options


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("m"), "gguf")


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[LanguageModel]:
    with load(path, threads=1, activations="float32") as made:
        yield made


@pytest.fixture
def answering(model: LanguageModel) -> lm_eval._Answering:
    return lm_eval._Answering(model, batch_size=2, max_tokens=8, seed=0)


def log_p(model: LanguageModel, ids: list[int]) -> np.ndarray:
    logits = model.session.forward([Span(np.asarray(ids), model.session.new_cache())], rows="all").astype(np.float64)
    found: np.ndarray = np.log(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    return found


def test_a_likelihood_is_the_sum_of_its_tokens(answering: lm_eval._Answering, model: LanguageModel) -> None:
    context, continuation = answering.encode("one two", with_bos=True), answering.encode(" three", with_bos=False)
    rows = log_p(model, [*context, *continuation])
    expected = sum(rows[len(context) - 1 + i, token] for i, token in enumerate(continuation))
    found, is_greedy = answering.likelihood(context, continuation)
    assert found == pytest.approx(expected, rel=1e-5) and not is_greedy
    best = int(rows[len(context) - 1].argmax())
    assert answering.likelihood(context, [best])[1]


def test_a_rolling_likelihood_counts_every_token_once(answering: lm_eval._Answering, model: LanguageModel) -> None:
    text = "some words to be looked at"
    ids = [answering.prefix_id, *answering.encode(text, with_bos=False)]
    rows = log_p(model, ids)
    expected = sum(rows[i, token] for i, token in enumerate(ids[1:]))
    assert answering.rolling(text) == pytest.approx(expected, rel=1e-5)
    assert math.isfinite(answering.rolling(text * 40)), "longer than the model is made for"


def test_a_context_that_is_too_long_loses_its_beginning(answering: lm_eval._Answering) -> None:
    assert math.isfinite(answering.likelihood(list(range(1, 200)) * 2, [5, 6])[0])


def test_texts_end_at_their_stop_strings_and_limits(answering: lm_eval._Answering, model: LanguageModel) -> None:
    (whole,) = answering.texts([("abc", {"max_gen_toks": 6})])
    assert whole == model.generate("abc", regime="raw", max_tokens=6).text
    (cut,) = answering.texts([("abc", {"max_gen_toks": 6, "until": [whole[1]]})])
    assert cut == whole[: whole.index(whole[1])]


def test_the_harness_decides_about_the_template(answering: lm_eval._Answering, model: LanguageModel) -> None:
    rendered = answering.rendered([{"role": "user", "content": "x"}])
    run = answering._run(0, rendered, {})
    assert list(run.prompt.token_ids) == list(model.run([{"role": "user", "content": "x"}]).prompt.token_ids)
    assert answering._run(0, "x", {}).prompt.decision == "raw"


def test_without_the_harness_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingDependency, match=r"apr\[lm-eval\]"):
        lm_eval.run(Options(model=str(path), suites=("x",)))


def test_a_suite_is_needed(path: Path) -> None:
    with pytest.raises(UsageError, match="--suite"):
        lm_eval.run(Options(model=str(path)))


@pytest.mark.parametrize(
    ("metric", "value", "n", "error", "method"),
    [("acc", 0.75, 4, 0.2, "wilson"), ("f1", 0.7, 10, 0.1, "standard error"), ("x", 1.0, 3, "N/A", "")],
)
def test_an_interval_stays_where_shares_are(metric: str, value: float, n: int, error: object, method: str) -> None:
    interval, made = lm_eval._interval(metric, value, n, error)
    assert made == method and (interval is None) == (method == "")
    assert method != "wilson" or (interval is not None and interval[1] <= 1.0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the harness's own
def test_a_task_of_the_harness_runs_offline(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"q": "one", "c": ["a", "b"], "gold": 0}, {"q": "two", "c": ["a", "b"], "gold": 1}]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tiny.yaml").write_text(
        f"task: tiny_mc\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {data}\ntest_split: test\n"
        'output_type: multiple_choice\ndoc_to_text: "{{q}}"\ndoc_to_choice: "{{c}}"\ndoc_to_target: gold\n'
        "metric_list:\n  - metric: acc\n"
    )
    report = lm_eval.run(Options(model=str(path), suites=("tiny_mc",), include=tmp_path, threads=1))
    (score,) = report.scores
    with load(path, threads=1) as model:
        answering = lm_eval._Answering(model, batch_size=1, max_tokens=8, seed=0)
        n_right = 0
        for row in rows:
            context = answering.encode(str(row["q"]), with_bos=True)
            likely = [answering.likelihood(context, answering.encode(f" {c}", with_bos=False))[0] for c in row["c"]]  # type: ignore[attr-defined]
            n_right += int(np.argmax(likely)) == row["gold"]
    assert score.name == "tiny_mc acc" and score.value == n_right / 2 and score.n == 2
