"""The harness tests itself before it reports: canonical solutions must pass, all of them, and what is none must not.

Each problem's own solution and an empty answer take the way of a model's answer: extraction, program, sandbox, checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from apr.errors import EngineError
from apr.evals._extraction import defines, preamble
from apr.evals._options import Regime
from apr.evals._problems import Problem
from apr.evals._sandbox import Verdict

# (problem, completion) -> verdict, as a model's completion under that regime is judged
Judge = Callable[[Problem, str], Verdict]
_AT_ONCE = 2
_EARLY = ("import os\nos._exit(0)", "raise SystemExit(0)", "print('passed')")


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What the harness made of answers whose verdict is known.

    n_canonical, n_canonical_passed:  the problems' own solutions: all must pass
    n_empty, n_empty_passed:          empty answers: none may
    n_cheating, n_cheating_passed:    programs that end early, with exit status 0: none may
    """

    n_canonical: int
    n_canonical_passed: int
    n_empty: int
    n_empty_passed: int
    n_cheating: int
    n_cheating_passed: int


def run(
    problems: Sequence[Problem],
    judges: Mapping[Regime, Judge],
    *,
    progress: Callable[[str, float], None] | None = None,
) -> SelfTest:
    """Judge what is known, under each regime. Raises EngineError if one verdict is wrong: nothing may be reported then."""
    cases = [
        (regime, problem, kind, text)
        for regime in judges
        for problem in problems
        for kind, text in _cases(regime, problem)
    ]
    cases += [(regime, problems[0], "cheating", _in_answer(regime, code)) for regime in judges for code in _EARLY]
    counts = {kind: [0, 0] for kind in ("canonical", "empty", "cheating")}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        verdicts = pool.map(lambda case: judges[case[0]](case[1], case[3]), cases)
        for done, ((regime, problem, kind, _), verdict) in enumerate(zip(cases, verdicts, strict=True)):
            if progress is not None:
                progress("self-test of the harness", done / len(cases))
            counts[kind][0] += 1
            counts[kind][1] += verdict.is_pass
            if verdict.is_pass != (kind == "canonical"):
                pool.shutdown(cancel_futures=True)
                raise EngineError(_complaint(regime, problem, kind, verdict))
    return SelfTest(*counts["canonical"], *counts["empty"], *counts["cheating"])


def canonical_answer(regime: str, problem: Problem) -> str:
    """The problem's own solution as a model would give it: as a continuation, or as a function in a fenced block.

    A chat answer leaves out the imports above the function, as models do.
    """
    if regime == "raw":
        return problem.canonical
    head = problem.prompt[len(preamble(problem.prompt, problem.entry_point)) :]
    assert defines(head, problem.entry_point)
    return f"Here is the function:\n\n```python\n{head}{problem.canonical}```\n"


def _cases(regime: str, problem: Problem) -> list[tuple[str, str]]:
    return [("canonical", canonical_answer(regime, problem)), ("empty", "")]


def _in_answer(regime: str, code: str) -> str:
    if regime == "raw":
        return "    pass\n\n" + code + "\n"
    return f"```python\n{code}\n```"


def _complaint(regime: str, problem: Problem, kind: str, verdict: Verdict) -> str:
    said = f"{verdict.kind}: {verdict.words}" if verdict.words else verdict.kind
    wrong = (
        f"its canonical solution does not pass ({said})" if kind == "canonical" else f"an answer that is {kind} passes"
    )
    return (
        f"the harness fails its self-test: {problem.id}, {regime}: {wrong}; no score is reported, "
        "because it would measure the harness and not the model"
    )
