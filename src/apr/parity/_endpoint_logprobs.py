"""An endpoint's answers under the reference: what it wrote is forced on the reference, position by position.

It gives some log-probabilities at best. Those of the tokens it lists, and the rest together, make a divergence that the
true one cannot be below (data processing inequality); a flip is a token that the reference would not have written.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apr.engines._base import Answer
from apr.engines._subject import Subject
from apr.errors import EngineError
from apr.parity import margin
from apr.parity._causes import Cause
from apr.parity._divergence import joined, log_probabilities
from apr.parity._expectation import own_engine, plain
from apr.parity._floor import Precision, coarsened, logit_ladder
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._pair import Pair
from apr.parity._probes import Probe
from apr.parity._teacher_forced import NEW_TOKENS, asked_of, output_of, rows_of

# of the reference's tokens behind its first, as many as any endpoint lists
_CONTENDERS = 4
_LOOKED_THROUGH = 512
_TEMPLATED = frozenset({"chat", "multi-turn"})
_EIGHT_BITS = Precision("int8", "float16", is_own=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """One probe as an endpoint answered it.

    ids:         of the answer, as the reference's tokenizer has them
    reference_ids: what the reference writes itself
    kl:          float64 [n], lower bounds, nats; empty if the endpoint gives no log-probabilities
    positions:   margins, and what the listed tokens gained; None without log-probabilities
    chosen_gap:  float64 [n], how far below its own choice the reference sees each token, in logits
    """

    probe: Probe
    prompt_ids: tuple[int, ...]
    answer: Answer
    ids: tuple[int, ...]
    reference_ids: tuple[int, ...]
    reference_text: str
    chosen_gap: np.ndarray
    margins: np.ndarray
    kl: np.ndarray
    gaps: np.ndarray
    pulls: np.ndarray

    @property
    def first_divergence(self) -> int | None:
        """The first output position where the two differ; None if they agree as far as both go."""
        if self.answer.text == self.reference_text:
            return None
        pairs = zip(self.ids, self.reference_ids, strict=False)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(self.ids), len(self.reference_ids)))


_known: weakref.WeakKeyDictionary[Subject, weakref.WeakKeyDictionary[Subject, dict[tuple[str, ...], list[Asked]]]] = (
    weakref.WeakKeyDictionary()
)


def ask(pair: Pair) -> list[Asked]:
    """Put every probe to the endpoint: raw text by completion, conversations through its own template; once a pair.

    Raises EngineError.
    """
    known = _known.setdefault(pair.reference, weakref.WeakKeyDictionary()).setdefault(pair.candidate, {})
    if pair.asked not in known:
        known[pair.asked] = _ask(pair)
    return known[pair.asked]


def _ask(pair: Pair) -> list[Asked]:
    found: list[Asked] = []
    asked = asked_of(pair)
    if not asked:
        raise EngineError("there is no prompt that the reference has a template and room for")
    for probe, prompt in asked:
        pair.progress(f"asking {probe.regime}/{probe.id}", len(found) / len(asked))
        endpoint = pair.candidate.endpoint
        if probe.regime in _TEMPLATED:
            answer = endpoint.chat(probe.messages, max_tokens=NEW_TOKENS, seed=pair.seed)
        else:
            answer = endpoint.complete(prompt.text, max_tokens=NEW_TOKENS, seed=pair.seed)
        found.append(_asked(pair.reference, probe, prompt.token_ids, answer))
    return found


def compare_endpoint(pair: Pair) -> LinkResult:
    """The logits link for an endpoint: its log-probabilities, where it gives any."""
    if "top_logprobs" not in pair.candidate.capabilities:
        return undecided("logits", "skipped", f"{pair.candidate.name} gives no log-probabilities")
    asked = [a for a in ask(pair) if len(a.kl)]
    if not asked:
        return undecided("logits", "skipped", f"{pair.candidate.name} gave no log-probabilities with its answers")
    kl = np.concatenate([a.kl for a in asked])
    ladder = eight_bit_ladder(pair, asked)
    judged = margin.judge(positions_of(asked), seed=pair.seed)
    measure = {
        "is_lower_bound": True,
        "floor": ladder,
        "regimes": {regime: _figures(asked, regime) for regime in dict.fromkeys(a.probe.regime for a in asked)},
        "bands": judged.bands(),
        "flips": {"verdict": judged.verdict, "sentence": judged.sentence},
    }
    mean = float(kl.mean())
    if judged.verdict == "excess":
        return different("logits", [excess(asked, judged)], measure)
    if judged.verdict == "cannot_tell":
        return undecided("logits", "cannot_tell", judged.sentence, measure)
    sentence = f"the endpoint's log-probabilities are {mean:.2g} nats or more from the reference's: {judged.sentence}"
    if mean <= ladder and judged.worst is not None and not any(a.first_divergence is not None for a in asked):
        return same("logits", sentence, measure)
    cause: Cause = "drift.precision" if mean <= ladder else "drift.quantization"
    return different("logits", [Finding(cause, sentence)], measure)


def eight_bit_ladder(pair: Pair, asked: Sequence[Asked]) -> float:
    """Mean divergence in nats that 8-bit arithmetic makes of the same texts, by our own engine on the reference's file."""
    own = own_engine(pair.reference)
    texts = [(*a.prompt_ids, *a.ids)[:64] for a in asked[:4]]
    kl = joined(logit_ladder(own.session, texts, coarsened(_EIGHT_BITS))).kl
    if own is not pair.reference:
        own.unload()
    return 4.0 * float(kl.mean())


def positions_of(asked: Sequence[Asked]) -> margin.Positions:
    """The answered positions, as the margin analysis takes them."""
    n = [len(a.kl) for a in asked]
    return margin.Positions(
        key=_keys(asked),
        margin=np.concatenate([a.margins for a in asked]),
        gaps=np.concatenate([a.gaps for a in asked]),
        pulls=np.concatenate([a.pulls for a in asked]),
        is_flip=np.concatenate([a.chosen_gap > 0 for a in asked]),
        prompt=np.repeat(np.arange(len(asked)), n),
        regime=np.repeat([a.probe.regime for a in asked], n),
    )


def _keys(asked: Sequence[Asked]) -> np.ndarray:
    """Of the answered positions: which of them are one position, seen twice."""
    fed = [(*a.prompt_ids, *a.ids)[:-1] for a in asked]
    keys = margin.keys_of(fed)
    ends = np.cumsum([len(ids) for ids in fed])
    return np.concatenate([keys[end - len(a.kl) : end] for a, end in zip(asked, ends, strict=True)])


def excess(asked: Sequence[Asked], judged: margin.Judgement) -> Finding:
    """What more flips than drift explains mean: the endpoint's template if only its templated prompts have them."""
    bad = {
        g.regime
        for g in judged.groups
        if g.regime != margin.ALL and g.chance * len(judged.groups) < margin.EXCESS_BELOW
    }
    is_template = bool(bad) and bad <= _TEMPLATED and any(a.probe.regime not in _TEMPLATED for a in asked)
    where: dict[str, Any] = {}
    place = judged.place
    for a in asked:
        if place is None:
            break
        if place < len(a.kl):
            where = {"regime": a.probe.regime, "probe": a.probe.id, "position": len(a.prompt_ids) + place}
            break
        place -= len(a.kl)
    if is_template:
        return Finding(
            "template.text", f"only the endpoint's own template gives other answers: {judged.sentence}", where
        )
    return Finding("engine.op", f"the endpoint writes what the reference does not: {judged.sentence}", where)


def _asked(reference: Subject, probe: Probe, prompt_ids: tuple[int, ...], answer: Answer) -> Asked:
    ids = answer.token_ids or tuple(reference.tokenizer.encode(answer.text))
    own = output_of(reference, prompt_ids)
    ends = own[:-1] if own and own[-1] in reference.stop_token_ids else own
    fed = (*prompt_ids, *ids)[:-1]
    rows = rows_of(reference.session, fed)[len(prompt_ids) - 1 :] if ids else np.zeros((0, 2), dtype=np.float32)
    log_p = log_probabilities(rows) if len(rows) else rows.astype(np.float64)
    best = np.argsort(-rows, axis=1, kind="stable")
    at = np.arange(len(rows))
    chosen = rows[at, best[:, 0]] - rows[at, list(ids)] if len(rows) else np.zeros(0)
    n_top = len(answer.top) if len(answer.top) == len(ids) else 0
    listed = [_listed(reference, best[i, :_LOOKED_THROUGH], answer, i, ids[i]) for i in range(n_top)]
    k = min(_CONTENDERS, rows.shape[1] - 1)
    return Asked(
        probe=probe,
        prompt_ids=prompt_ids,
        answer=answer,
        ids=tuple(ids),
        reference_ids=own,
        reference_text=reference.tokenizer.decode(list(ends)),
        chosen_gap=chosen.astype(np.float64),
        margins=(rows[at, best[:, 0]] - rows[at, best[:, 1]]).astype(np.float64) if len(rows) else np.zeros(0),
        kl=np.array([_lower_bound(log_p[i], found) for i, found in enumerate(listed)]),
        gaps=np.array([log_p[i, best[i, 0]] - log_p[i, best[i, 1 : k + 1]] for i in range(n_top)]).reshape(n_top, k),
        pulls=np.array([_pulls(log_p[i], best[i, : k + 1], found) for i, found in enumerate(listed)]).reshape(n_top, k),
    )


def _listed(reference: Subject, likely: np.ndarray, answer: Answer, step: int, token_id: int) -> dict[int, float]:
    """The endpoint's log-probabilities by id: its texts, found among the tokens that the reference thinks likely.

    A text that several of those tokens have (halves of a character) is left out, but for the token that was written.
    """
    wanted = dict(answer.top[step])
    found: dict[int, float] = {}
    seen: set[str] = set()
    for likely_id in likely.tolist():
        text = reference.tokenizer.decode([likely_id])
        if text in wanted:
            if text in seen:
                found = {i: p for i, p in found.items() if reference.tokenizer.decode([i]) != text}
            else:
                found[likely_id] = wanted[text]
            seen.add(text)
    if len(answer.logprobs) == len(answer.top):
        found[token_id] = answer.logprobs[step]
    return found


def _lower_bound(log_p: np.ndarray, listed: dict[int, float]) -> float:
    """Divergence of the listed tokens and the rest as one, nats."""
    ids = list(listed)
    p, q = np.exp(log_p[ids]), np.exp(np.array([listed[i] for i in ids]))
    rest_p, rest_q = max(1.0 - float(p.sum()), 1e-12), max(1.0 - float(q.sum()), 1e-12)
    inside = float((p * (log_p[ids] - np.log(np.maximum(q, 1e-300)))).sum())
    return max(inside + rest_p * float(np.log(rest_p / rest_q)), 0.0)


def _pulls(log_p: np.ndarray, ranked: np.ndarray, listed: dict[int, float]) -> np.ndarray:
    """float64 [k]: what each contender gained on the reference's first. One that is not listed counts as unmoved, or
    as the least that is listed where that is less.
    """
    least = min(listed.values(), default=0.0)
    moved = np.array([listed.get(int(i), min(least, float(log_p[i]))) - log_p[i] for i in ranked])
    gained: np.ndarray = moved[1:] - moved[0]
    return gained


def _figures(asked: Sequence[Asked], regime: str) -> dict[str, Any]:
    chosen = [a for a in asked if a.probe.regime == regime]
    kl = np.concatenate([a.kl for a in chosen])
    return {
        "n_positions": len(kl),
        "n_prompts": len(chosen),
        "kl_mean": plain(kl.mean()) if len(kl) else None,
        "kl_max": plain(kl.max()) if len(kl) else None,
        "n_flips": int(sum((a.chosen_gap > 0).sum() for a in chosen)),
    }
