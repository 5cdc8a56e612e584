"""Both subjects on the same ids: every probe and the reference's own continuation of it, all positions in one pass.

The candidate then computes the continuation once more token by token, through its cache: one engine, two ways, one answer.
What comes of a pair is kept as long as its subjects are, because two links ask for it; whole rows of logits are not.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apr.engines._base import Session
from apr.engines._generate import Generation, StopRule, generate
from apr.engines._subject import Subject
from apr.errors import EngineError
from apr.models._decoder import Span
from apr.parity import _probes
from apr.parity._divergence import Divergence, diverge, joined
from apr.parity._pair import Pair
from apr.parity._probes import Probe, Prompt
from apr.tokenizer.spec import TokenType

NEW_TOKENS = 24
# positions of the reference whose logits are held at once: of a vocabulary of 150,000 they are 39 MB
_PIECE = 64

_outputs: weakref.WeakKeyDictionary[Subject, dict[tuple[int, ...], tuple[int, ...]]] = weakref.WeakKeyDictionary()
_observed: weakref.WeakKeyDictionary[
    Subject, weakref.WeakKeyDictionary[Subject, dict[tuple[str, ...], tuple[Forced, ...]]]
]
_observed = weakref.WeakKeyDictionary()


class VocabularyMismatch(ValueError):
    """Logits over other vocabularies, and not by padding alone."""


class ReferenceFailed(ValueError):
    """The reference itself gives up, or gives no number somewhere: nothing can be compared with it."""


@dataclass(frozen=True, slots=True)
class Forced:
    """One probe, teacher-forced.

    output_ids:  what the reference goes on with, greedily, a stop id included
    divergence:  of every position but the last id's, n = len(prompt_ids) + len(output_ids) - 1
    steps:       the candidate's one pass against its own decoding: of the positions that chose `output_ids`
    """

    probe: Probe
    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    divergence: Divergence
    steps: Divergence

    @property
    def ids(self) -> tuple[int, ...]:
        """What was fed: every position has a row."""
        return (self.prompt_ids + self.output_ids)[:-1]

    @property
    def first_output(self) -> int:
        """The row that chose the first id of the output."""
        return len(self.prompt_ids) - 1


def output_of(subject: Subject, prompt_ids: Sequence[int]) -> tuple[int, ...]:
    """What a subject goes on with, greedily, up to a stop id or NEW_TOKENS."""
    known = _outputs.setdefault(subject, {})
    key = tuple(prompt_ids)
    if key not in known:
        rule = StopRule(max_tokens=NEW_TOKENS, token_ids=subject.stop_token_ids)
        generation = Generation(key, stop=rule)
        for _ in generate(subject.session, subject.tokenizer, [generation]):
            pass
        known[key] = tuple(step.token_id for step in generation.steps)
    return known[key]


def output_if_known(subject: Subject, prompt_ids: Sequence[int]) -> tuple[int, ...] | None:
    """`output_of`, where it has been asked before."""
    return _outputs.get(subject, {}).get(tuple(prompt_ids))


def observe(pair: Pair) -> tuple[Forced, ...]:
    """Every probe that the reference can read, forced on both.

    Raises VocabularyMismatch, ReferenceFailed, and EngineError of the candidate.
    """
    known = _observed.setdefault(pair.reference, weakref.WeakKeyDictionary()).setdefault(pair.candidate, {})
    if pair.asked not in known:
        asked = asked_of(pair)
        if not asked:
            regimes = ", ".join(dict.fromkeys(probe.regime for probe in pair.probes))
            raise ReferenceFailed(f"the reference has no template, or no room, for any prompt of the regime {regimes}")
        found = []
        for i, (probe, prompt) in enumerate(asked):
            pair.progress(f"logits: {probe.regime}/{probe.id}", i / len(asked))
            found.append(_forced(pair, probe, prompt.token_ids))
        known[pair.asked] = tuple(found)
    return known[pair.asked]


def asked_of(pair: Pair) -> list[tuple[Probe, Prompt]]:
    """The probes that the reference has a template for, and that leave room for an answer."""
    with_files = [subject for subject in (pair.reference, pair.candidate) if not subject.is_endpoint]
    room = min(subject.session.max_positions for subject in with_files) - NEW_TOKENS
    return [
        (probe, prompt)
        for probe, prompt in _probes.prompts(pair.reference, pair.probes)
        if len(prompt.token_ids) <= room
    ]


def left_out(pair: Pair) -> list[str]:
    """The regimes that nothing was asked under."""
    asked = {probe.regime for probe, _ in asked_of(pair)}
    return [regime for regime in _probes.REGIMES if regime not in asked]


def rows_of(session: Session, ids: Sequence[int]) -> np.ndarray:
    """float32 [n, vocab_size]: the logits of every position in one pass; rows that the engine refuses to give are nan.

    An engine gives up at the first pass whose logits are not finite: the longest beginning that it does compute is found
    by halving.
    """
    try:
        return _all_rows(session, ids)
    except EngineError:
        low, high = 0, len(ids)
        found = None
        while high - low > 1:
            middle = (low + high) // 2
            try:
                found, low = _all_rows(session, ids[:middle]), middle
            except EngineError:
                high = middle
        if found is None:
            raise
        lost = np.full((len(ids) - low, found.shape[1]), np.nan, dtype=np.float32)
        return np.concatenate([found, lost])


def stepwise(session: Session, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> np.ndarray:
    """float32 [n_output, vocab_size]: the logits that choose each output id, one token at a time through the cache."""
    cache = session.new_cache()
    found: list[np.ndarray] = []
    for ids in (prompt_ids, *([token_id] for token_id in output_ids[:-1])):
        try:
            found.append(session.forward([Span(np.asarray(ids, dtype=np.int64), cache)])[0])
        except EngineError:
            if not found:
                raise
            found += [np.full_like(found[0], np.nan)] * (len(output_ids) - len(found))
            break
    return np.stack(found)


def aligned(reference: np.ndarray, candidate: np.ndarray, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Both without the padding of their vocabularies, where the widths differ. Raises VocabularyMismatch.

    subject:  whose tokenizer says which ids are words
    """
    widths = reference.shape[1], candidate.shape[1]
    if widths[0] == widths[1]:
        return reference, candidate
    n_words = n_used(subject)
    if min(widths) < n_words:
        raise VocabularyMismatch(
            f"logits over {widths[0]} tokens against {widths[1]}, of which {n_words} are words: more than padding differs"
        )
    return reference[:, :n_words], candidate[:, :n_words]


def n_used(subject: Subject) -> int:
    """One more than the highest id that is no padding."""
    types = np.asarray(subject.spec.token_types)
    return int(np.flatnonzero(types != TokenType.UNUSED)[-1]) + 1


def _forced(pair: Pair, probe: Probe, prompt_ids: tuple[int, ...]) -> Forced:
    try:
        output_ids = output_of(pair.reference, prompt_ids)
    except EngineError as exc:
        raise ReferenceFailed(f"the reference gives up over {probe.regime}/{probe.id}: {exc}") from exc
    ids = (*prompt_ids, *output_ids)
    got = rows_of(pair.candidate.session, ids[:-1])
    divergence = _from_reference(pair, probe, ids, got)
    steps = stepwise(pair.candidate.session, prompt_ids, output_ids)
    return Forced(probe, tuple(prompt_ids), output_ids, divergence, diverge(got[len(prompt_ids) - 1 :], steps))


def _from_reference(pair: Pair, probe: Probe, ids: tuple[int, ...], got: np.ndarray) -> Divergence:
    """The candidate's rows against the reference's, which is run in pieces, so that not all of its rows are held."""
    session = pair.reference.session
    cache = session.new_cache()
    found = []
    for start in range(0, len(got), _PIECE):
        stop = min(start + _PIECE, len(got))
        span = Span(np.asarray(ids[start:stop], dtype=np.int64), cache)
        try:
            right = session.forward([span], rows="all")
        except EngineError as exc:
            raise ReferenceFailed(f"the reference gives up over {probe.regime}/{probe.id}: {exc}") from exc
        found.append(diverge(*aligned(right, got[start:stop], pair.reference), ids[start + 1 : stop + 1]))
    return joined(found)


def _all_rows(session: Session, ids: Sequence[int]) -> np.ndarray:
    return session.forward([Span(np.asarray(ids, dtype=np.int64), session.new_cache())], rows="all")
