"""What subjects write by themselves, and whether the candidate agrees with itself while it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apr.engines._generate import PromptCache, Step
from apr.engines._language_model import Run
from apr.engines._subject import Subject
from apr.models._decoder import Span
from apr.parity import _probes
from apr.parity._causes import Cause
from apr.parity._divergence import diverge
from apr.parity._drift import Limits
from apr.parity._link import Finding
from apr.parity._pair import Pair
from apr.parity._probes import Probe
from apr.parity._teacher_forced import NEW_TOKENS, asked_of, output_if_known, stepwise

# "alone": one sequence, nothing cached; "cached": its prompt is in a prompt cache; "batch": together with the others
Mode = Literal["alone", "cached", "batch"]
BATCH_SIZE = 4


@dataclass(frozen=True, slots=True)
class Free:
    """One probe as a subject answered it.

    ids:                   what it wrote, a stop id included
    steps, finish_reason:  of the candidate's runs
    """

    probe: Probe
    mode: Mode
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    steps: tuple[Step, ...] = ()
    finish_reason: str = ""


def run_reference(pair: Pair) -> list[Free]:
    """Every probe that the reference has a template for, each by itself."""
    found = []
    for i, probe in enumerate(_asked(pair)):
        pair.progress("generation: the reference", i / (2 * len(pair.probes)))
        run = _prepared(pair.reference, probe, pair)
        # the same function has written this already, where the logits link has looked at the same ids
        known = output_if_known(pair.reference, run.prompt.token_ids)
        if known is None:
            found.append(_finished(run, probe, "alone"))
        else:
            found.append(Free(probe, "alone", tuple(run.prompt.token_ids), known))
    return found


def run_candidate(pair: Pair) -> list[Free]:
    """The same probes: each by itself, one of every regime again with its prompt cached, and all in batches."""
    probes = _asked(pair)
    found = []
    for i, probe in enumerate(probes):
        pair.progress("generation: the candidate", 0.5 + i / (4 * len(probes)))
        found.append(_finished(_prepared(pair.candidate, probe, pair), probe, "alone"))
    for probe in {p.regime: p for p in reversed(probes)}.values():
        cache = PromptCache(pair.candidate.language_model.session)
        for mode in ("alone", "cached"):  # the first fills the cache
            run = _prepared(pair.candidate, probe, pair, cache=cache, max_tokens=1 if mode == "alone" else NEW_TOKENS)
            ended = _finished(run, probe, "cached")
        found.append(ended)
    runs = [_prepared(pair.candidate, probe, pair) for probe in probes]
    for _ in pair.candidate.language_model.run_together(runs, batch_size=BATCH_SIZE):
        pass
    return found + [_free(run, probe, "batch") for run, probe in zip(runs, probes, strict=True)]


def check_itself(pair: Pair, runs: Sequence[Free], limits: Limits) -> list[Finding]:
    """What in the candidate's own runs contradicts itself: the sampler, the stops, the caches."""
    alone = {_key(run): run for run in runs if run.mode == "alone"}
    findings = [finding for run in alone.values() for finding in _stops(pair, run)]
    for run in alone.values():
        finding = _choice(pair.candidate, run, limits)
        if finding is not None:
            findings.append(finding)
            break
    for run in runs:
        if run.mode != "alone" and run.ids != alone[_key(run)].ids:
            finding = _modes(alone[_key(run)], run, limits)
            if finding is not None:
                findings.append(finding)
                break
    return findings


def _asked(pair: Pair) -> list[Probe]:
    return [probe for probe, _ in asked_of(pair)]


def _prepared(
    subject: Subject, probe: Probe, pair: Pair, *, cache: PromptCache | None = None, max_tokens: int = NEW_TOKENS
) -> Run:
    """A probe as `apr run` would be asked it."""
    model = subject.language_model
    if probe.regime == "pre-formatted":
        prompt = _probes.prompt(pair.reference, probe, reference=pair.reference)
        assert prompt is not None, "only probes that the reference can render are asked"
        return model.run(prompt.text, max_tokens=max_tokens, prompt_cache=cache)
    if probe.text is not None:
        return model.run(probe.text, regime="raw", max_tokens=max_tokens, prompt_cache=cache)
    return model.run(list(probe.messages), max_tokens=max_tokens, prompt_cache=cache)


def _finished(run: Run, probe: Probe, mode: Mode) -> Free:
    for _ in run:
        pass
    return _free(run, probe, mode)


def _free(run: Run, probe: Probe, mode: Mode) -> Free:
    ids = tuple(step.token_id for step in run.steps)
    return Free(probe, mode, tuple(run.prompt.token_ids), ids, tuple(run.steps), run.finish_reason)


def _key(run: Free) -> tuple[str, str]:
    return run.probe.regime, run.probe.id


def _stops(pair: Pair, run: Free) -> list[Finding]:
    """A stop id in the middle, or an end without one."""
    own, wanted = pair.candidate.stop_token_ids, pair.reference.stop_token_ids
    where = {"regime": run.probe.regime, "probe": run.probe.id}
    passed = next((i for i, token_id in enumerate(run.ids[:-1]) if token_id in own | wanted), None)
    if passed is not None:
        token_id = run.ids[passed]
        cause: Cause = "engine.stop" if token_id in own else "stop.missing"
        sentence = f"{run.probe.regime}/{run.probe.id}: the candidate writes the stop token {token_id} and goes on"
        return [Finding(cause, sentence, where | {"position": len(run.prompt_ids) + passed, "token_id": token_id})]
    last = run.ids[-1] if run.ids else None
    if run.finish_reason == "eos" and last not in wanted:
        cause = "stop.extra" if last in own else "engine.stop"
        sentence = f"{run.probe.regime}/{run.probe.id}: the candidate ends its turn at token {last}, which ends none"
        return [
            Finding(cause, sentence, where | {"position": len(run.prompt_ids) + len(run.ids) - 1, "token_id": last})
        ]
    if run.finish_reason not in ("eos", "context_full") and len(run.ids) < NEW_TOKENS:
        sentence = (
            f"{run.probe.regime}/{run.probe.id}: the candidate ends after {len(run.ids)} tokens, without a stop token"
        )
        return [Finding("engine.stop", sentence, where | {"position": len(run.prompt_ids) + len(run.ids)})]
    return []


def _choice(subject: Subject, run: Free, limits: Limits) -> Finding | None:
    """Each token against the arg-max of the subject's own logits, in one pass and step by step."""
    session = subject.session
    if not run.ids:
        return None
    cache = session.new_cache()
    first = session.forward([Span(np.asarray(run.prompt_ids, dtype=np.int64), cache)])
    logits = first
    if len(run.ids) > 1:
        rest = session.forward([Span(np.asarray(run.ids[:-1], dtype=np.int64), cache)], rows="all")
        logits = np.concatenate([first, rest])
    chosen = np.asarray(run.ids)
    wrong = np.flatnonzero(logits.argmax(axis=1) != chosen)
    if not len(wrong):
        return None
    steps = stepwise(session, run.prompt_ids, run.ids)
    for i in wrong.tolist():
        where = {
            "regime": run.probe.regime,
            "probe": run.probe.id,
            "position": len(run.prompt_ids) + i,
            "token_id": int(chosen[i]),
        }
        if int(steps[i].argmax()) != chosen[i]:
            rank = int((steps[i] > steps[i, chosen[i]]).sum()) + 1
            sentence = (
                f"{run.probe.regime}/{run.probe.id}: token {i + 1} of the answer is {chosen[i]}, number {rank} of the "
                f"candidate's own logits; the first is {int(steps[i].argmax())}"
            )
            return Finding("engine.sampling", sentence, where)
        apart = float(diverge(logits[i : i + 1], steps[i : i + 1]).kl[0])
        if apart > limits.worst:
            sentence = (
                f"{run.probe.regime}/{run.probe.id}: token {i + 1} of the answer is the first choice token by token, and "
                f"not in one pass over the same text ({apart:.2g} nats apart)"
            )
            return Finding("engine.kv_cache", sentence, where)
    return None


def _modes(alone: Free, other: Free, limits: Limits) -> Finding | None:
    """Two ways to the same answer that give two: a fault, unless the first token that differs is a near tie."""
    at = next((i for i, (a, b) in enumerate(zip(alone.ids, other.ids, strict=False)) if a != b), None)
    if at is None:
        at = min(len(alone.ids), len(other.ids))
    else:
        moved = alone.steps[at].margin + other.steps[at].margin
        # logits of two likely tokens that move by m against each other make m² / 8 nats at the most
        if moved**2 / 8.0 <= limits.worst:
            return None
    how = "with its prompt cached" if other.mode == "cached" else f"in a batch of {BATCH_SIZE}"
    where = {
        "regime": other.probe.regime,
        "probe": other.probe.id,
        "mode": other.mode,
        "position": len(other.prompt_ids) + at,
        "token_id": other.ids[at] if at < len(other.ids) else None,
    }
    sentence = (
        f"{other.probe.regime}/{other.probe.id}: {how} the candidate writes something else from token {at + 1} on"
    )
    return Finding("engine.kv_cache", sentence, where)
