"""Prompts that nobody would write, and that somebody will send: each is answered or refused, and harms nobody after it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from apr.engines._language_model import LanguageModel, Run
from apr.errors import EngineError, TemplateError, TokenizerError, UsageError
from apr.qa import _adversaries
from apr.qa._adversaries import Adversary
from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate

LEAST_PROMPTS = 50
_TOKENS = 2
_CANARY_TOKENS = 6
_BATCH = 8
_LONG = {"smoke": 160}  # characters of the longest prompts
_LONG_RELEASE = 1000
_CANARY = Adversary("a plain question", "Name a colour.")
_REFUSALS = (UsageError, TemplateError, TokenizerError)


@gate(
    severity="P0",
    profiles=("smoke", "release"),
    rationale="One prompt that crashes the program, or fills its state with NaN, takes every other user's answer with it.",
    source="ecosystem 3; ship-two 18, R9 and R12",
)
def check(judged: Judged) -> Iterator[Finding]:
    """At least 50 prompts through the generation of `apr run`; finite logits, ids of the vocabulary, valid text, no crash."""
    model = judged.language_model
    prompts = _prompts(judged, model)
    before = _alone(model, _CANARY, max_tokens=_CANARY_TOKENS)
    runs: list[tuple[Adversary, Run]] = []
    n_refused = n_failed = 0
    for adversary in prompts:
        outcome = _prepared(model, adversary)
        if isinstance(outcome, Run):
            runs.append((adversary, outcome))
            continue
        n_refused += outcome.status == "pass"
        n_failed += outcome.status != "pass"
        if outcome.status != "pass":
            yield outcome
    n_ran = 0
    for adversary, run in _ended(model, runs):
        finding = _looked_at(model, adversary, run)
        if finding is None:
            n_ran += 1
        else:
            n_failed += 1
            yield finding
    yield from _changed(before, _alone(model, _CANARY, max_tokens=_CANARY_TOKENS))
    measure = {"n_prompts": len(prompts), "n_ran": n_ran, "n_refused": n_refused, "n_failed": n_failed}
    assert len(prompts) >= LEAST_PROMPTS, "the prompts are fewer than the gate promises"
    message = f"{len(prompts)} prompts: {n_ran} ran, {n_refused} were refused with a reason, {n_failed} failed"
    yield Finding("pass", "stands", message, measure=measure)


def _prompts(judged: Judged, model: LanguageModel) -> list[Adversary]:
    control = model.tokenizer.control_tokens
    written: frozenset[str] = frozenset()
    if model.template is not None:
        written = model.template.control_tokens_rendered()
    spelled = sorted((text for text in control if text.strip()), key=lambda text: (text not in written, control[text]))
    return list(
        _adversaries.adversaries(
            spelled,
            context=model.session.max_positions,
            long=_LONG.get(judged.profile, _LONG_RELEASE),
            has_template=model.template is not None,
        )
    )


def _prepared(model: LanguageModel, adversary: Adversary) -> Run | Finding:
    """The generation, ready to run, or what kept it from being one: a pass for a refusal that is in order."""
    where = {"prompt": adversary.id}
    try:
        run = model.run(adversary.content, max_tokens=_TOKENS, prompt_id=adversary.id, **adversary.options)
    except _REFUSALS as exc:
        if not str(exc).strip():
            return Finding(
                "fail", "unexplained", f"{adversary.id}: refused without a reason ({type(exc).__name__})", where
            )
        if adversary.expected == "runs":
            return Finding("fail", "refused", f"{adversary.id}: refused, and any user may write it: {exc}", where)
        return Finding("pass", "refused", f"{adversary.id}: {exc}", where)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is a crash that this prompt caused
        return _crash(adversary, exc)
    if adversary.expected == "refused":
        return Finding("fail", "accepted", f"{adversary.id}: {len(run.prompt.token_ids)} tokens were accepted", where)
    return run


def _ended(model: LanguageModel, runs: Sequence[tuple[Adversary, Run]]) -> Iterator[tuple[Adversary, Run | Exception]]:
    """Bring the runs to their ends, several at a time; after a crash, those that it stopped by themselves."""
    for start in range(0, len(runs), _BATCH):
        batch = runs[start : start + _BATCH]
        try:
            for _ in model.run_together([run for _, run in batch], batch_size=_BATCH):
                pass
            yield from batch
        except Exception:  # noqa: BLE001 - told below, of the prompt that causes it
            for adversary, _ in batch:
                yield adversary, _alone(model, adversary)


def _alone(model: LanguageModel, adversary: Adversary, *, max_tokens: int = _TOKENS) -> Run | Exception:
    try:
        run = model.run(adversary.content, max_tokens=max_tokens, prompt_id=adversary.id, **adversary.options)
        for _ in run:
            pass
    except Exception as exc:  # noqa: BLE001 - as above
        return exc
    return run


def _looked_at(model: LanguageModel, adversary: Adversary, run: Run | Exception) -> Finding | None:
    """What is wrong with an ended generation."""
    if isinstance(run, Exception):
        return _crash(adversary, run)
    where = {"prompt": adversary.id}
    if not run.steps:
        return Finding("fail", "nothing", f"{adversary.id}: no token was generated", where)
    for position, step in enumerate(run.steps):
        figures = (step.logprob, *(logprob for _, logprob in step.top))
        if not all(map(math.isfinite, figures)) or math.isnan(step.margin):
            message = f"{adversary.id}: logits that are not finite at generated token {position} (log-probability {step.logprob})"
            return Finding("fail", "not-finite", message, where | {"position": position})
        if not 0 <= step.token_id < model.checkpoint.config.vocab_size:
            message = f"{adversary.id}: token {step.token_id} is outside the vocabulary"
            return Finding("fail", "outside", message, where | {"position": position, "token_id": step.token_id})
    try:
        run.text.encode()
    except UnicodeEncodeError as exc:
        return Finding("fail", "not-text", f"{adversary.id}: the answer is no valid text: {exc}", where)
    return None


def _crash(adversary: Adversary, exc: Exception) -> Finding:
    where = {"prompt": adversary.id, "error": type(exc).__name__}
    if isinstance(exc, EngineError) and "not finite" in str(exc):  # our own engine looks before it answers
        return Finding("fail", "not-finite", f"{adversary.id}: {exc}", where)
    return Finding("fail", "crash", f"{adversary.id}: {type(exc).__name__}: {exc}"[:400], where)


def _changed(before: Run | Exception, after: Run | Exception) -> Iterator[Finding]:
    """A plain question, asked before and after: the answer must not depend on what else was asked."""
    if isinstance(before, Exception):
        yield _crash(_CANARY, before)
    elif isinstance(after, Exception):
        yield _crash(_CANARY, after)
    else:
        first, second = ([step.token_id for step in run.steps] for run in (before, after))
        if first != second:
            message = f"{_CANARY.content!r} was answered with ids {first}, and after these prompts with {second}"
            yield Finding("fail", "state-leak", message, {"before": first, "after": second})
