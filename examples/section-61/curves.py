"""The three curves that section 61 argued with and never drew: margin by step, drift by step, flips by margin.

The reference is our engine on the GGUF with exact activations. A candidate is given the reference's own tokens, so that at each
step both continue the same text: what differs is this step's error, not another history.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from questions import KINDS

from apr.engines._record import RunRecord
from apr.engines._subject import Subject
from apr.errors import AprError
from apr.models._decoder import Span
from apr.parity import margin
from apr.parity._divergence import Divergence, diverge

DRAWS = 2000
MIN_STEPS = 4  # a half of two steps has a mean


@dataclass(frozen=True, slots=True)
class Line:
    """The named prompt of a kind, step by step. drift: by candidate, what of the margin is used up: from 1 on a token flips."""

    kind: str
    prompt: str
    tokens: tuple[str, ...]
    margin: tuple[float, ...]
    drift: dict[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of geometric means with its 95 % interval, whole prompts redrawn."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Kind:
    """All prompts of a kind. margin: percentiles by name; n_in_reach: by candidate, steps whose margin its p99 drift reaches."""

    kind: str
    n_prompts: int
    n_steps: int
    margin: dict[str, float]
    n_in_reach: dict[str, int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate against the reference.

    drift:    percentiles, logits: how much margin a step needs to be safe
    growth:   error in the second half of the steps over that in the first
    n_flips:  steps at which its best token is another
    highest:  the largest margin at which one flipped; None if none did
    verdict:  of `apr.parity.margin`: whether drift of other prompts predicts as many flips
    bands:    n, flips and predicted flips by margin
    """

    name: str
    n_steps: int
    drift: dict[str, float]
    growth: Ratio
    n_flips: int
    highest: float | None
    verdict: str
    sentence: str
    bands: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """All of it.

    chat_over_direct, continuation_over_direct: of the margins
    n_below_highest:  steps with a margin no larger than the largest at which any candidate flipped
    """

    lines: tuple[Line, ...]
    kinds: tuple[Kind, ...]
    candidates: tuple[Candidate, ...]
    chat_over_direct: Ratio
    continuation_over_direct: Ratio
    n_below_highest: int
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Path:
    """The reference's answer to one prompt, and its logits at each step, float32 [n_steps, vocab_size]."""

    kind: str
    prompt: str
    record: RunRecord
    logits: np.ndarray


def measure(
    reference: Subject, candidates: dict[str, Subject], *, n_prompts: int, n_steps: int, seed: int = 0
) -> Curves:
    """Generate with the reference, force its tokens on each candidate, compare every step."""
    paths = list(_paths(reference, n_prompts=n_prompts, n_steps=n_steps))
    reference.unload()
    found: dict[str, list[Divergence]] = {}
    skipped: dict[str, str] = {}
    for name, candidate in candidates.items():
        try:
            found[name] = [_divergence(candidate, path) for path in paths]
        except AprError as exc:
            skipped[name] = str(exc)
        candidate.unload()
    margins = [np.array([step.margin for step in path.record.steps]) for path in paths]
    kinds = np.array([path.kind for path in paths])
    judged = [_candidate(name, paths, parts, seed) for name, parts in found.items()]
    highest = max((c.highest for c in judged if c.highest is not None), default=0.0)
    drift_p99 = {name: float(np.percentile(_drifts(parts), 99)) for name, parts in found.items()}
    return Curves(
        lines=tuple(_lines(reference, paths, found)),
        kinds=tuple(_kind(kind, kinds, margins, drift_p99) for kind in KINDS),
        candidates=tuple(judged),
        chat_over_direct=_over(margins, kinds, "chat", "direct", seed),
        continuation_over_direct=_over(margins, kinds, "continuation", "direct", seed),
        n_below_highest=sum(int((values <= highest).sum()) for values in margins),
        skipped=skipped,
    )


def _paths(reference: Subject, *, n_prompts: int, n_steps: int) -> Iterator[_Path]:
    for kind, prompts in KINDS.items():
        for prompt in prompts[:n_prompts]:
            regime = "chat" if kind == "chat" else "raw"
            record = reference.language_model.generate(prompt, regime=regime, max_tokens=n_steps)
            logits = _forced(reference, record)
            # the reference on its own tokens makes its own choices: if it did not, nothing here would mean anything
            assert logits.argmax(axis=-1).tolist() == list(record.output_token_ids), (
                f"{prompt!r}: other choices when forced"
            )
            yield _Path(kind, prompt, record, logits)


def _divergence(candidate: Subject, path: _Path) -> Divergence:
    """Every step of the reference's answer, both sides on the reference's tokens."""
    return diverge(path.logits, _forced(candidate, path.record), path.record.output_token_ids)


def _forced(subject: Subject, record: RunRecord) -> np.ndarray:
    """float32 [n_steps, vocab_size]: the logits that each of the record's tokens was, or would be, chosen from."""
    ids = np.array([*record.prompt_token_ids, *record.output_token_ids[:-1]], dtype=np.int64)
    session = subject.session
    logits = session.forward([Span(ids, session.new_cache())], rows="all")
    return logits[len(record.prompt_token_ids) - 1 :]


def _drifts(parts: Sequence[Divergence]) -> np.ndarray:
    return np.concatenate([part.drift for part in parts])


def _lines(reference: Subject, paths: Sequence[_Path], found: dict[str, list[Divergence]]) -> Iterator[Line]:
    for kind in KINDS:
        at = next(i for i, path in enumerate(paths) if path.kind == kind)
        record = paths[at].record
        yield Line(
            kind=kind,
            prompt=paths[at].prompt,
            tokens=tuple(reference.tokenizer.decode([token_id]) for token_id in record.output_token_ids),
            margin=tuple(step.margin for step in record.steps),
            drift={name: tuple(parts[at].drift.tolist()) for name, parts in found.items()},
        )


def _kind(kind: str, kinds: np.ndarray, margins: Sequence[np.ndarray], drift_p99: dict[str, float]) -> Kind:
    chosen = [margins[i] for i in np.flatnonzero(kinds == kind).tolist()]
    values = np.concatenate(chosen)
    return Kind(
        kind=kind,
        n_prompts=len(chosen),
        n_steps=len(values),
        margin={f"p{q}": float(np.percentile(values, q)) for q in (5, 25, 50, 75, 95)},
        n_in_reach={name: int((values <= reach).sum()) for name, reach in drift_p99.items()},
    )


def _candidate(name: str, paths: Sequence[_Path], parts: Sequence[Divergence], seed: int) -> Candidate:
    positions = margin.positions_of([(path.kind, part) for path, part in zip(paths, parts, strict=True)])
    judgement = margin.judge(positions, seed=seed)
    flipped = positions.margin[positions.is_flip]
    drift = _drifts(parts)
    return Candidate(
        name=name,
        n_steps=len(positions),
        drift={f"p{q}": float(np.percentile(drift, q)) for q in (50, 95, 99)} | {"max": float(drift.max())},
        growth=_growth(parts, seed),
        n_flips=len(flipped),
        highest=float(flipped.max()) if len(flipped) else None,
        verdict=judgement.verdict,
        sentence=judgement.sentence,
        bands=tuple(judgement.bands()),
    )


def _growth(parts: Sequence[Divergence], seed: int) -> Ratio:
    """Each prompt is its own control: its late steps against its early ones."""
    logs = []
    for part in parts:
        error = np.log(np.maximum(part.error, 1e-12))
        if len(error) >= MIN_STEPS:
            half = len(error) // 2
            logs.append(float(error[half:].mean() - error[:half].mean()))
    return _ratio(np.array(logs), np.zeros(1), seed)


def _over(margins: Sequence[np.ndarray], kinds: np.ndarray, above: str, below: str, seed: int) -> Ratio:
    logs = np.array([float(np.log(np.maximum(m, 1e-6)).mean()) for m in margins])
    return _ratio(logs[kinds == above], logs[kinds == below], seed)


def _ratio(above: np.ndarray, below: np.ndarray, seed: int) -> Ratio:
    """exp of the difference of two means of logarithms, one entry a prompt."""
    random = np.random.default_rng(seed)
    drawn = [values[random.integers(0, len(values), (DRAWS, len(values)))].mean(axis=1) for values in (above, below)]
    low, high = np.percentile(drawn[0] - drawn[1], (2.5, 97.5))
    return Ratio(float(np.exp(above.mean() - below.mean())), float(np.exp(low)), float(np.exp(high)))
