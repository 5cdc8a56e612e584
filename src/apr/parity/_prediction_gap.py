"""One figure for a counterfactual: how far the candidate's predictions are from the reference's, in nats."""

from __future__ import annotations

import numpy as np

from apr.engines._subject import Subject
from apr.errors import AprError
from apr.models._decoder import Span
from apr.parity import _probes
from apr.parity._pair import Pair

_MAX_TOKENS = 64


def prediction_gap(pair: Pair) -> float | None:
    """Mean KL(reference | candidate) over the regimes' shortest questions; None if the candidate cannot be asked.

    Each side reads the question as its own template and tokenizer make it. Where that gives the same ids, every position
    counts; where it does not, the last one does: what would each say next?
    """
    if pair.reference.is_endpoint or pair.candidate.is_endpoint:
        return None
    gaps = []
    try:
        for regime in ("raw", "chat"):
            probe = _probes.of_regime(regime)[0]
            expected = _probes.prompt(pair.reference, probe, reference=pair.reference)
            found = _probes.prompt(pair.candidate, probe, reference=pair.reference)
            if expected is None:
                continue
            ids = (found or _unwrapped(pair.candidate, probe)).token_ids
            gaps.append(_gap(pair, expected.token_ids[:_MAX_TOKENS], ids[:_MAX_TOKENS]))
    except AprError:
        return None
    return float(np.mean(gaps)) if gaps else None


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities in float64 of logits [rows, vocab_size]."""
    values = logits.astype(np.float64)
    values -= values.max(axis=-1, keepdims=True)
    log_probabilities: np.ndarray = values - np.log(np.exp(values).sum(axis=-1, keepdims=True))
    return log_probabilities


def _gap(pair: Pair, expected: tuple[int, ...], found: tuple[int, ...]) -> float:
    rows = slice(None) if expected == found else slice(-1, None)
    first, second = _logits(pair.reference, expected)[rows], _logits(pair.candidate, found)[rows]
    width = min(first.shape[1], second.shape[1])  # vocabulary padding
    p, q = log_softmax(first[:, :width]), log_softmax(second[:, :width])
    return float(max(0.0, (np.exp(p) * (p - q)).sum(axis=1).mean()))


def _logits(subject: Subject, token_ids: tuple[int, ...]) -> np.ndarray:
    session = subject.session
    span = Span(np.asarray(token_ids, dtype=np.int64), session.new_cache())
    return session.forward([span], rows="all")


def _unwrapped(subject: Subject, probe: _probes.Probe) -> _probes.Prompt:
    """What a model without a template is given: the last message as it is."""
    text = str(probe.messages[-1]["content"])
    return _probes.Prompt(text, tuple(subject.voice.encode(text)))
