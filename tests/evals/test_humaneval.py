"""HumanEval from questions to a score, on a tiny model and small problems; the real ones on a real model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.engines._language_model import LanguageModel
from apr.errors import AprError, EngineError, UsageError
from apr.evals import _asking, _problems, _sandbox, _self_test, humaneval
from apr.evals._asking import round_robin, seed_of
from apr.evals._options import Options
from apr.evals._report import EvalReport
from apr.evals._self_test import SelfTest, canonical_answer
from eval_problems import PROBLEMS, TOTAL

SELF_TEST = _self_test.run


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """A tiny model and two small problems; the self-test, which test_self_test tests, says yes."""
    monkeypatch.setattr(_problems, "load", lambda: list(PROBLEMS))
    monkeypatch.setattr(_self_test, "run", lambda *_, **__: SelfTest(4, 4, 4, 0, 6, 0))
    monkeypatch.setenv("APR_HOME", str(tmp_path / "home"))
    model = tiny.write(tmp_path / "m", "gguf", tiny.config(max_position_embeddings=512))
    return Options(model=str(model), threads=1, max_tokens=8, out=tmp_path / "out.jsonl", timeout_s=30.0)


Answering = Callable[[Callable[[str, str], str]], None]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Answering:
    """Put texts in the place of what the model writes; the records stay its own."""
    real = _asking.asking

    def install(text_of: Callable[[str, str], str]) -> None:
        def asking(model: LanguageModel, *, batch_size: int) -> Any:
            def ask(questions: Any) -> Any:
                for item, record in real(model, batch_size=batch_size)(questions):
                    problem, regime, _ = item.rsplit("/", 2)
                    yield item, record | {"text": text_of(problem, regime)}

            return ask

        monkeypatch.setattr(_asking, "asking", asking)

    return install


def entries(path: Path, kind: str) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    chosen = [entry for entry in found if entry["kind"] == kind]
    assert len({entry["id"] for entry in chosen}) == len(chosen), "counted twice"
    return {entry["id"]: entry for entry in chosen}


def score(report: EvalReport, regime: str, name: str = "pass@1") -> tuple[float | None, int | None]:
    (found,) = [s for s in report.scores if (s.regime, s.name) == (regime, name)]
    return found.value, found.n_passed


def test_a_tiny_model_answers_everything_and_solves_nothing(options: Options) -> None:
    report = humaneval.run(options)
    assert score(report, "raw") == score(report, "chat") == (0.0, 0)
    assert report.exit_code == 0 and report.self_test is not None and report.self_test.n_canonical_passed == 4
    assert [s.interval for s in report.scores] == [pytest.approx((0.0, 0.6576), abs=1e-4)] * 2
    assert {(s.n, s.n_all, s.of) for s in report.scores} == {(2, 164, "problems")}
    assert options.out is not None
    answers = entries(options.out, "answer")
    assert set(answers) == {f"{p.id}/{regime}/0" for p in PROBLEMS for regime in ("raw", "chat")}
    for item, answer in answers.items():
        record = answer["record"]
        assert record["prompt_id"] == item and len(record["output_token_ids"]) == len(record["steps"])
        assert record["template"]["decision"] == ("raw" if "/raw/" in item else "applied")
        assert record["model_sha256"] == report.model_sha256


def test_right_answers_score_and_a_limit_is_coverage(options: Options, answering: Answering) -> None:
    answering(lambda item, regime: canonical_answer(regime, TOTAL) if item == TOTAL.id else "no")
    report = humaneval.run(options)
    assert score(report, "raw") == score(report, "chat") == (0.5, 1)
    assert [item.kinds for item in report.items if item.id == TOTAL.id] == [("passed",), ("passed",)]
    limited = humaneval.run(dataclasses.replace(options, limit=1))
    assert score(limited, "raw") == (1.0, 1) and (limited.scores[0].n, limited.scores[0].n_all) == (1, 164)
    assert limited.n_resumed == 2, "what was answered is not asked again"


def test_the_program_that_ran_is_kept(options: Options, answering: Answering) -> None:
    answering(lambda item, regime: canonical_answer(regime, TOTAL))
    humaneval.run(dataclasses.replace(options, limit=1))
    assert options.out is not None
    for verdict in entries(options.out, "verdict").values():
        namespace: dict[str, Any] = {}
        exec(verdict["program"], namespace)
        assert namespace["total"]([1, 2]) == 3 and verdict["confined"]


def test_a_broken_harness_reports_nothing(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_self_test, "run", SELF_TEST)
    monkeypatch.setattr(_sandbox, "judge", lambda *_, **__: _sandbox.Verdict("passed", "", 1, 0.0, {}))
    with pytest.raises(EngineError, match="no score is reported"):
        humaneval.run(options)
    assert options.out is not None and not options.out.exists()


def test_k_over_the_samples_and_equal_samples_are_refused(options: Options) -> None:
    with pytest.raises(UsageError, match="pass@2 needs 2 answers"):
        humaneval.run(dataclasses.replace(options, ks=(1, 2)))
    with pytest.raises(UsageError, match="the same answer 3 times"):
        humaneval.run(dataclasses.replace(options, samples=3))


def test_samples_are_drawn_apart_and_scored_by_problem(options: Options, answering: Answering) -> None:
    asked = dataclasses.replace(options, samples=3, ks=(1, 3), temperature=1.0, regimes=("chat",))
    report = humaneval.run(asked)
    assert asked.out is not None
    answers = entries(asked.out, "answer")
    assert len(answers) == 6 and len({tuple(a["record"]["output_token_ids"]) for a in answers.values()}) == 6
    assert [s.name for s in report.scores] == ["pass@1", "pass@3"]
    assert [item.n_answers for item in report.items] == [3, 3] and report.scores[0].n_passed is None


def test_a_run_that_dies_is_taken_up_and_ends_as_one_that_did_not(options: Options) -> None:
    whole = humaneval.run(dataclasses.replace(options, out=options.out.with_name("whole.jsonl")))  # type: ignore[union-attr]

    class Killed(BaseException):
        pass

    def dying(what: str, share: float) -> None:
        if "2 of 4 answered" in what:
            raise Killed

    with pytest.raises(Killed):
        humaneval.run(dataclasses.replace(options, progress=dying, batch_size=1))
    assert options.out is not None
    assert len(entries(options.out, "answer")) == 2
    with options.out.open("ab") as file:
        file.write(b'{"kind":"answer","id":"Small/1/ch')
    resumed = humaneval.run(options)
    assert (resumed.n_resumed, resumed.n_cut_bytes) == (2, 33)
    assert resumed.items == whole.items and len(entries(options.out, "answer")) == 4
    with pytest.raises(UsageError, match="begun with max_tokens = 8, and now it is 9"):
        humaneval.run(dataclasses.replace(options, max_tokens=9))


def test_an_answer_without_its_verdict_is_judged_and_not_asked_again(options: Options) -> None:
    humaneval.run(options)
    assert options.out is not None
    lines = options.out.read_text().splitlines(keepends=True)
    assert '"kind":"verdict"' in lines[-1]
    options.out.write_text("".join(lines[:-1]))
    report = humaneval.run(options)
    assert report.n_resumed == 4 and len(entries(options.out, "verdict")) == 4


def test_without_a_template_the_chat_score_is_missing_and_says_why(options: Options, tmp_path: Path) -> None:
    bare = dataclasses.replace(tiny.spec(), chat_template=None)
    model = tiny.write(tmp_path / "bare", "gguf", tiny.config(max_position_embeddings=512), tokenizer=bare)
    asked = dataclasses.replace(options, model=str(model))
    report = humaneval.run(asked)
    assert score(report, "chat") == (None, None) and "no chat template" in report.scores[1].note
    assert report.exit_code == 0
    with pytest.raises(UsageError, match="--regime raw"):
        humaneval.run(dataclasses.replace(asked, regimes=("chat",)))


def test_the_journal_has_a_place_of_its_own_for_each_question(options: Options, tmp_path: Path) -> None:
    paths = {humaneval.run(dataclasses.replace(options, out=None, seed=seed)).journal for seed in (0, 0, 1)}
    assert len(paths) == 2 and all(str(tmp_path / "home") in str(path) for path in paths)


def test_dealing_is_complete_and_disjoint() -> None:
    questions = [_asking.Question(str(i), "x", "raw", 1, 0.0, 0) for i in range(11)]
    for n in (1, 2, 3, 11, 20):
        dealt = round_robin(questions, n)
        assert sorted((q.id for shard in dealt for q in shard), key=int) == [str(i) for i in range(11)]
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_a_seed_is_an_answers_own() -> None:
    assert seed_of(0, "a") == seed_of(0, "a") and len({seed_of(0, "a"), seed_of(0, "b"), seed_of(1, "a")}) == 3


def test_a_question_that_nobody_answers_is_an_error(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_asking, "asking", lambda *_, **__: lambda questions: iter(()))
    with pytest.raises(AprError, match="4 questions got no answer"):
        humaneval.run(options)


@pytest.mark.real
@pytest.mark.timeout(900)  # on a machine that does other things too
@pytest.mark.parametrize(("n", "each", "together"), [(2, 0, 1), pytest.param(8, 3, 6, marks=pytest.mark.slow)])
def test_real_problems_end_to_end(
    n: int, each: int, together: int, real_model: Callable[[str], Path], tmp_path: Path
) -> None:
    model = real_model("qwen2.5-coder:0.5b")
    report = humaneval.run(
        Options(model=str(model), limit=n, max_tokens=160, out=tmp_path / "out.jsonl", timeout_s=60.0)
    )
    assert report.self_test is not None and report.self_test.n_canonical_passed == 2 * n
    assert len(entries(tmp_path / "out.jsonl", "answer")) == 2 * n
    n_passed = [found.n_passed or 0 for found in report.scores if found.interval is not None]
    assert len(n_passed) == 2 and min(n_passed) >= each and sum(n_passed) >= together
