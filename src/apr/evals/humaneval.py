"""HumanEval: 164 Python functions to complete, each judged by its tests in a sandbox, under both prompt regimes."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import apr
from apr import hub
from apr.engines._subject import Subject
from apr.errors import UsageError
from apr.evals import _extraction, _passing, _problems, _sandbox, _self_test
from apr.evals._asking import Question, asker, collect, seed_of
from apr.evals._journal import Journal
from apr.evals._options import Options, Regime
from apr.evals._problems import Problem
from apr.evals._report import EvalReport, Item, Score, exit_code_of
from apr.hub import digest

OPTIONS = frozenset({
    "samples", "temperature", "ks", "regimes", "max_tokens", "batch_size", "timeout_s", "memory_mib", "out", "shards",
    "ray_address",
})  # fmt: skip
TASK = "humaneval"
INSTRUCTION = "Complete the following Python function. Answer with the whole function in one Python code block."
# where a continuation leaves the function. Source: Chen et al. 2021, section 2
STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")


def run(options: Options) -> EvalReport:
    """Answer, judge, score.

    Raises UsageError for k > samples, and for samples that would all be the same; EngineError if the harness fails its
    self-test.
    """
    started = time.perf_counter()
    _check(options)
    problems = _problems.load()[: options.limit]
    judges = {regime: _judge(regime, options) for regime in options.regimes}
    self_test = _self_test.run(problems, judges, progress=options.progress)
    with Subject.of(options.model, threads=options.threads, activations=options.activations) as subject:
        regimes = [regime for regime in options.regimes if regime == "raw" or subject.template is not None]
        if not regimes:
            raise UsageError(f"{subject.name} has no chat template; use --regime raw")
        sha256 = digest.of_files(subject.file.files)
        settings = _settings(options, subject, sha256)
        with Journal(options.out or default_journal(TASK, subject, settings), settings) as journal:
            asked = {
                question.id: (question, problem, regime)
                for regime in regimes
                for problem in problems
                for question in _questions(problem, regime, options)
            }

            def judged(question: Question, text: str) -> dict[str, Any]:
                _, problem, regime = asked[question.id]
                verdict = judges[regime](problem, text)
                return {
                    "verdict": verdict.kind,
                    "words": verdict.words,
                    "n_calls": verdict.n_calls,
                    "seconds": verdict.seconds,
                    "confined": verdict.confined,
                    "program": program(regime, problem, text),
                }

            collect(
                [question for question, _, _ in asked.values()],
                journal,
                asker(options, lambda: subject.language_model, sha256),
                judged=judged,
                progress=options.progress,
            )
            items = [_item(problem, regime, journal, options) for regime in regimes for problem in problems]
            held = [journal.get("verdict", item) for item in asked]
        scores = tuple(score for regime in options.regimes for score in _scores(items, regime, options))
        return EvalReport(
            task=TASK,
            model=subject.name,
            model_sha256=sha256,
            reference=None,
            scores=scores,
            items=tuple(items),
            self_test=self_test,
            confinement=next((v["confined"] for v in held if v is not None and v["confined"]), {}),
            settings=settings,
            journal=str(journal.path),
            n_resumed=sum(journal.resumed("answer", item) for item in asked),
            n_cut_bytes=journal.was_cut,
            shards=options.shards,
            seconds=time.perf_counter() - started,
            exit_code=exit_code_of(scores),
        )


def program(regime: Regime, problem: Problem, text: str) -> str:
    """What is run of a completion: it under the prompt, or an answer's code under the prompt's own imports."""
    if regime == "raw":
        return _extraction.continued(problem.prompt, text)
    return _extraction.answered(problem.prompt, text, problem.entry_point)


def default_journal(task: str, subject: Subject, settings: dict[str, Any]) -> Path:
    """A file in the state folder: the same for the same question, another for another."""
    asked = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    return hub.state_dir() / "evals" / f"{task}-{subject.path.stem}-{asked}.jsonl"


def _check(options: Options) -> None:
    for k in options.ks:
        if k > options.samples:
            raise UsageError(
                f"pass@{k} needs {k} answers a problem, --samples is {options.samples}; nothing is known of more"
            )
    if options.samples > 1 and options.temperature == 0.0:
        raise UsageError(
            f"--samples {options.samples} at temperature 0 is the same answer {options.samples} times; give --temperature"
        )


def _judge(regime: Regime, options: Options) -> _self_test.Judge:
    limits = _sandbox.Limits(options.timeout_s, options.memory_mib << 20)

    def judge(problem: Problem, text: str) -> _sandbox.Verdict:
        return _sandbox.judge(
            program(regime, problem, text),
            entry_point=problem.entry_point,
            prelude=problem.prompt + "\n    pass\n",
            test=problem.test,
            limits=limits,
        )

    return judge


def _questions(problem: Problem, regime: Regime, options: Options) -> list[Question]:
    prompt: str | list[dict[str, str]] = problem.prompt
    if regime == "chat":
        prompt = [{"role": "user", "content": f"{INSTRUCTION}\n\n```python\n{problem.prompt.strip()}\n```"}]
    ids = [_id(problem, regime, sample) for sample in range(options.samples)]
    return [
        Question(
            id=item,
            prompt=prompt,
            regime=regime,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            seed=seed_of(options.seed, item),
            stop=STOP if regime == "raw" else (),
        )
        for item in ids
    ]


def _id(problem: Problem, regime: Regime, sample: int) -> str:
    return f"{problem.id}/{regime}/{sample}"


def _settings(options: Options, subject: Subject, sha256: str) -> dict[str, Any]:
    """What an answer or a verdict depends on. Not how many are asked, nor who answers them: each answer's record says that."""
    return {
        "task": TASK,
        "apr": apr.__version__,
        "problems_sha256": _problems.SHA256,
        "model_sha256": sha256,
        "engine": subject.engine,
        "activations": options.activations,
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "seed": options.seed,
        "instruction": INSTRUCTION,
        "stop": list(STOP),
        "timeout_s": options.timeout_s,
        "memory_mib": options.memory_mib,
    }


def _item(problem: Problem, regime: Regime, journal: Journal, options: Options) -> Item:
    found = [journal.get("verdict", _id(problem, regime, sample)) for sample in range(options.samples)]
    kinds = tuple(str(entry["verdict"]) for entry in found if entry is not None)
    assert len(kinds) == options.samples
    return Item(problem.id, regime, len(kinds), kinds.count("passed"), kinds)


def _scores(items: list[Item], regime: Regime, options: Options) -> list[Score]:
    chosen = [item for item in items if item.regime == regime]
    scores = []
    for k in options.ks:
        if not chosen:
            note = "the model has no chat template"
            scores.append(Score(f"pass@{k}", regime, None, None, "", 0, _problems.N_PROBLEMS, "problems", None, note))
            continue
        values = [_passing.pass_at_k(item.n_answers, item.n_passed, k) for item in chosen]
        mean, interval, method = _passing.mean_with_interval(values, seed=options.seed)
        n_passed = sum(item.n_passed for item in chosen) if options.samples == 1 else None
        scores.append(
            Score(f"pass@{k}", regime, mean, interval, method, len(chosen), _problems.N_PROBLEMS, "problems", n_passed)
        )
    return scores
