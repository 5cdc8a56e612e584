"""The model answers what every model can answer: exactly, through its own template, and comes to an end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from apr.engines._language_model import Run
from apr.evals._passing import wilson
from apr.qa import _admission, _golden
from apr.qa._golden import Golden
from apr.qa._judged import Judged
from apr.qa.gate import Coverage, Finding, gate

_BATCH = 8
_FLOOR_RUNS = 3
# of the prompts that are admitted, the share that must be right, by grade; grade 3 is only shown
_LEAST_RIGHT = {1: 0.75, 2: 0.4}
# fewer admitted ones say nothing of a regime
_LEAST_ADMITTED = 4
_LEAST_ENDED = 0.5

Outcome = Literal["right", "wrong", "not admitted"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of one prompt.

    margin:  of the deciding step, logits: the least over the answer's tokens; of a wrong answer, how far the right one's first token was from being chosen
    """

    golden: Golden
    outcome: Outcome
    margin: float
    text: str
    ended: bool


@gate(
    rationale="A wrong rotary base, a lost bias, swapped tensors or a mangled template leave a model fluent and wrong: only its answers show it.",
    source="ship-two 7.3 and its requirements R2, R10 and R16: exact oracles, admission by measured margin, the generation of `apr run`",
    severity="P0",
    profiles=("smoke", "release"),
)
def check(judged: Judged) -> Iterator[Finding]:
    """Prompts of several grades under both regimes; of those decided by more than rounding, enough are right."""
    model = judged.language_model
    grades: dict[_golden.Grade, bool] = {1: True, 2: True, 3: judged.profile == "release"}
    goldens = list(_golden.chosen(_golden.GOLDEN, has_template=model.template is not None, grades=grades))
    runs = [
        model.run(g.prompt, regime=g.regime, max_tokens=g.n_tokens, prompt_id=g.id) for g in goldens
    ]  # fmt: skip
    for _ in model.run_together(runs, batch_size=_BATCH):
        pass
    floor = _admission.floor(judged, runs[:: max(1, len(runs) // _FLOOR_RUNS)], seed=judged.seed)
    if floor is None:
        message = f"the engine {judged.model.engine} does not let its rounding be drawn anew: no margin can be told from noise"
        yield Finding("undecided", "no-floor", message)
        return
    found = [_judged(golden, run, floor.needed) for golden, run in zip(goldens, runs, strict=True)]
    for regime in ("raw", "chat"):
        mine = [one for one in found if one.golden.regime == regime]
        if mine:
            yield _verdict(regime, mine, floor)
    chats = [one for one in found if one.golden.regime == "chat"]
    if chats:
        yield _leaks(chats)
        yield _endings(chats, has_stop=bool(model.stop_token_ids))
    else:
        yield Finding("pass", "raw-only", "the model carries no chat template: it was asked to continue texts only")


def _judged(golden: Golden, run: Run, needed: float) -> Judgement:
    place = _golden.answer(golden, run.text)
    ended = run.finish_reason == "eos"
    margin = _margin_of(run, place) if place is not None else _miss_of(golden, run)
    outcome: Outcome = "not admitted" if margin <= needed else "right" if place is not None else "wrong"
    return Judgement(golden, outcome, margin, run.text, ended)


def _margin_of(run: Run, place: _golden.Answer) -> float:
    """The least margin over the steps that wrote the answer."""
    margins, at = [], 0
    for step in run.steps:
        if at < place.end and at + len(step.text) > place.start:
            margins.append(step.margin)
        at += len(step.text)
    return min(margins, default=0.0)


def _miss_of(golden: Golden, run: Run) -> float:
    """How far the right answer's first token was behind the chosen one at its nearest, in logits; infinite if nowhere in sight."""
    tokenizer = run.model.tokenizer
    firsts = {ids[0] for a in golden.answers for text in (a, f" {a}") if (ids := tokenizer.encode(text))}
    # a lone space begins many an answer, and decides none
    firsts = {token_id for token_id in firsts if tokenizer.decode([token_id]).strip()}
    steps = run.steps[:1] if golden.regime == "raw" else run.steps
    gaps = [
        step.top[0][1] - logprob
        for step in steps
        for token_id, logprob in step.top
        if token_id in firsts and token_id != step.token_id
    ]
    return min(gaps, default=math.inf)


def _verdict(regime: str, found: Sequence[Judgement], floor: _admission.Floor) -> Finding:
    """One regime's verdict: each is a claim of its own."""
    asked = [one for one in found if one.golden.grade in _LEAST_RIGHT]
    admitted = [one for one in asked if one.outcome != "not admitted"]
    right = [one for one in admitted if one.outcome == "right"]
    measure: dict[str, Any] = {
        "n_prompts": len(found),
        "n_admitted": len(admitted),
        "n_right": len(right),
        "right_share": len(right) / len(admitted) if admitted else None,
        "margin_floor": floor.rms,
        "margin_needed": floor.needed,
        "least_margin": min((one.margin for one in right), default=None),
    }
    where = {"regime": regime, "prompts": [_shown(one) for one in found]}
    coverage = Coverage(len(admitted), len(asked), f"{regime} prompts admitted")
    if len(admitted) < _LEAST_ADMITTED:
        message = f"{regime}: of {len(asked)} prompts {len(admitted)} are decided by more than rounding ({floor.needed:.2f} logits), {_LEAST_ADMITTED} are needed"
        return Finding("undecided", "too-few-admitted", message, where, measure, coverage=coverage)
    interval = wilson(len(right), len(admitted))
    for grade, least in _LEAST_RIGHT.items():
        mine = [one for one in admitted if one.golden.grade == grade]
        n_right = sum(one.outcome == "right" for one in mine)
        if mine and n_right < least * len(mine):
            first = next(one for one in mine if one.outcome == "wrong")
            message = (
                f"{regime}: {n_right} of {len(mine)} prompts of grade {grade} are answered right, expected {least:.0%}; "
                f"{first.golden.prompt!r} is answered {first.text[:60]!r}, and not {first.golden.answers[0]!r}"
            )
            return Finding(
                "fail", "wrong-answers", message, where | {"prompt": first.golden.id}, measure, interval, coverage
            )
    message = f"{regime}: {len(right)} of {len(admitted)} admitted prompts are answered right"
    return Finding("pass", "answers", message, where, measure, interval, coverage)


def _leaks(found: Sequence[Judgement]) -> Finding:
    """No answer holds pieces of a template."""
    leaks = [(one, piece) for one in found if (piece := _golden.leak(one.text, one.golden.prompt)) is not None]
    measure = {"n_leaks": len(leaks), "n_prompts": len(found)}
    if not leaks:
        return Finding("pass", "no-leak", f"no trace of the template in {len(found)} answers", measure=measure)
    one, piece = leaks[0]
    message = f"{one.golden.prompt!r} is answered {one.text[:60]!r}: {piece!r} is the template's, and no answer"
    where = {"prompt": one.golden.id, "text_offset": max(0, one.text.find(piece)), "piece": piece}
    return Finding("fail", "template-leak", message, where, measure)


def _endings(found: Sequence[Judgement], *, has_stop: bool) -> Finding:
    """Short answers end by a stop token."""
    short = [one for one in found if one.golden.grade == 1]
    ended = sum(one.ended for one in short)
    measure = {"n_ended": ended, "n_prompts": len(short)}
    interval = wilson(ended, len(short))
    if ended >= _LEAST_ENDED * len(short):
        return Finding(
            "pass", "stops", f"{ended} of {len(short)} short answers end by themselves", {}, measure, interval
        )
    why = "" if has_stop else ": the model has no stop token"
    one = next(one for one in short if not one.ended)
    message = f"{ended} of {len(short)} short answers end by themselves{why}; {one.golden.prompt!r} is answered {one.text[-60:]!r}"
    return Finding("fail", "never-stops", message, {"prompt": one.golden.id}, measure, interval)


def _shown(one: Judgement) -> dict[str, Any]:
    margin = None if math.isinf(one.margin) else round(one.margin, 3)
    return {"id": one.golden.id, "grade": one.golden.grade, "outcome": one.outcome, "margin": margin, "text": one.text}
