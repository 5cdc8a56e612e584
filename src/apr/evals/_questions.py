"""A user's own questions, from a file of JSON lines, each with an exact oracle.

    {"id": "sum", "prompt": "What is 6 + 8?", "contains": "14"}

`answer`: the whole text, but for blanks around it; `contains`: the text holds it as a word of its own, so that "14" is not
"4"; `pattern`: a regular expression that is found in it. An oracle that an empty answer satisfies is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apr
from apr.engines._subject import Subject
from apr.errors import UsageError
from apr.evals import _passing
from apr.evals._asking import Question, asker, collect, seed_of
from apr.evals._journal import Journal
from apr.evals._options import Options, Regime
from apr.evals._report import EvalReport, Item, Score, exit_code_of
from apr.evals.humaneval import default_journal
from apr.hub import digest

OPTIONS = frozenset({"temperature", "regimes", "max_tokens", "batch_size", "out", "shards", "ray_address"})
ORACLES = ("answer", "contains", "pattern")
_KEYS = {"id", "prompt", "messages", *ORACLES}


@dataclass(frozen=True, slots=True)
class OwnQuestion:
    """A line of the file.

    prompt:   a text, or a conversation of role and content
    oracle:   answer, contains or pattern; expected: what it holds
    """

    id: str
    prompt: str | list[dict[str, Any]]
    oracle: str
    expected: str

    def is_right(self, text: str) -> bool:
        """Whether an answer satisfies the oracle."""
        return _RULES[self.oracle](self.expected, text)


_RULES: dict[str, Callable[[str, str], bool]] = {
    "answer": lambda expected, text: text.strip() == expected.strip(),
    # a word of its own: no letter, digit or decimal sign may go on with it
    "contains": lambda expected, text: (
        re.search(rf"(?<![\w.,-])(?<!\w[.,]){re.escape(expected.strip())}(?!\w)(?![.,]\w)", text) is not None
    ),
    "pattern": lambda expected, text: re.search(expected, text) is not None,
}


def run(options: Options) -> EvalReport:
    """Answer, judge, score. Raises UsageError for a file that is not what is described above."""
    started = time.perf_counter()
    assert options.questions is not None
    every = read(options.questions)
    chosen = every[: options.limit]
    with Subject.of(options.model, threads=options.threads, activations=options.activations) as subject:
        asked = {
            question.id: (question, own, regime)
            for regime in options.regimes
            for own in chosen
            if (question := _question(own, regime, options, has_template=subject.template is not None)) is not None
        }
        sha256 = digest.of_files(subject.file.files)
        settings = _settings(options, subject, sha256)
        path = options.out or default_journal(options.questions.stem, subject, settings)
        with Journal(path, settings) as journal:

            def judged(question: Question, text: str) -> dict[str, Any]:
                return {"verdict": "passed" if asked[question.id][1].is_right(text) else "wrong"}

            collect(
                [question for question, _, _ in asked.values()],
                journal,
                asker(options, lambda: subject.language_model, sha256),
                judged=judged,
                progress=options.progress,
            )
            verdicts = {item: journal.get("verdict", item) or {} for item in asked}
        items = tuple(
            Item(own.id, regime, 1, int(verdicts[item]["verdict"] == "passed"), (str(verdicts[item]["verdict"]),))
            for item, (_, own, regime) in asked.items()
        )
        scores = tuple(_score(items, regime, every) for regime in options.regimes)
        return EvalReport(
            task=str(options.questions),
            model=subject.name,
            model_sha256=sha256,
            reference=None,
            scores=scores,
            items=items,
            self_test=None,
            confinement={},
            settings=settings,
            journal=str(path),
            n_resumed=sum(journal.resumed("answer", item) for item in asked),
            n_cut_bytes=journal.was_cut,
            shards=options.shards,
            seconds=time.perf_counter() - started,
            exit_code=exit_code_of(scores),
        )


def read(path: Path) -> list[OwnQuestion]:
    """The questions of a file. Raises UsageError that names the line."""
    found: dict[str, OwnQuestion] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            question = _parsed(f"{path}: line {number}", line, number)
            if question.id in found:
                raise UsageError(f"{path}: line {number}: the id {question.id!r} a second time")
            found[question.id] = question
    if not found:
        raise UsageError(f"{path}: no question in it")
    return list(found.values())


def _parsed(where: str, line: bytes, number: int) -> OwnQuestion:
    try:
        row = json.loads(line)
    except ValueError as exc:
        raise UsageError(f"{where}: not JSON ({exc}), expected an object with a prompt and an oracle") from exc
    if not isinstance(row, dict) or row.keys() - _KEYS:
        unknown = sorted(row.keys() - _KEYS) if isinstance(row, dict) else type(row).__name__
        raise UsageError(f"{where}: found {unknown}, expected only {', '.join(sorted(_KEYS))}")
    oracles = [name for name in ORACLES if name in row]
    if len(oracles) != 1:
        raise UsageError(f"{where}: {len(oracles)} oracles, expected one of {', '.join(ORACLES)}")
    if ("prompt" in row) == ("messages" in row):
        raise UsageError(f'{where}: expected either "prompt" or "messages"')
    expected, name = row[oracles[0]], row.get("id", number)
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise UsageError(f"{where}: the id is no string and no integer")
    prompt = row["prompt"] if "prompt" in row else _messages(where, row["messages"])
    if not isinstance(expected, str) or not isinstance(prompt, str | list) or not prompt:
        raise UsageError(f'{where}: "prompt" and "{oracles[0]}" are strings, "messages" a list of role and content')
    question = OwnQuestion(str(name), prompt, oracles[0], expected)
    try:
        is_vacuous = question.is_right("") or (oracles[0] != "pattern" and not question.is_right(expected))
    except re.error as exc:
        raise UsageError(f"{where}: the pattern is no regular expression: {exc}") from exc
    if is_vacuous:
        raise UsageError(f'{where}: an empty answer would satisfy "{oracles[0]}"; such a question tells nothing')
    return question


def _messages(where: str, value: Any) -> list[dict[str, Any]]:
    if (
        isinstance(value, list)
        and value
        and all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in value)
    ):
        return value
    raise UsageError(f'{where}: "messages" is a list of objects with "role" and "content"')


def _question(own: OwnQuestion, regime: Regime, options: Options, *, has_template: bool) -> Question | None:
    """The question under a regime; None where it cannot be asked so: a conversation is not continued raw."""
    if (regime == "raw" and not isinstance(own.prompt, str)) or (regime == "chat" and not has_template):
        return None
    item = f"{own.id}/{regime}"
    return Question(item, own.prompt, regime, options.max_tokens, options.temperature, seed_of(options.seed, item))


def _settings(options: Options, subject: Subject, sha256: str) -> dict[str, Any]:
    assert options.questions is not None
    return {
        "task": "questions",
        "apr": apr.__version__,
        "questions_sha256": hashlib.sha256(options.questions.read_bytes()).hexdigest(),
        "model_sha256": sha256,
        "engine": subject.engine,
        "activations": options.activations,
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "seed": options.seed,
    }


def _score(items: tuple[Item, ...], regime: Regime, every: list[OwnQuestion]) -> Score:
    chosen = [item for item in items if item.regime == regime]
    if not chosen:
        note = "the model has no chat template" if regime == "chat" else "conversations are not continued raw"
        return Score("accuracy", regime, None, None, "", 0, len(every), "questions", None, note)
    n_passed = sum(item.n_passed for item in chosen)
    interval = _passing.wilson(n_passed, len(chosen))
    return Score(
        "accuracy", regime, n_passed / len(chosen), interval, "wilson", len(chosen), len(every), "questions", n_passed
    )
