"""Positions: what stands far back is still read, the rotary base is the one that the weights were trained with, the end is the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from apr.engines._generate import PromptCache
from apr.engines._language_model import LanguageModel, Run
from apr.errors import UsageError
from apr.qa import _passages, _scoring
from apr.qa._judged import Judged
from apr.qa._passages import Note
from apr.qa.gate import Coverage, Finding, gate

# positions of the long prompt, and of the prose that the rotary base is tried on
_POSITIONS = {"smoke": 1024}
_POSITIONS_RELEASE = 2048
_PROSE = {"smoke": 512}
_PROSE_RELEASE = 800
# what published models were trained with; others are tried as well as these by what lies between
_BASES = (1e4, 1e5, 5e5, 1e6, 1e7)
_NEAREST = 2.9  # bases closer than this factor are no other base
_BASES_TRIED = {"smoke": 2}
_BASES_TRIED_RELEASE = 3
# standard errors that another base must be better by: about one in two thousand by chance
_SURE = 3.3
_SHORT_LINES = 4
_ANSWER_TOKENS = 4
# a prompt as long as the context is only made where that is quick
_MOST_POSITIONS = 1 << 18
_ROOM = 24  # positions for the question and the answer


@gate(
    rationale="A wrong rotary base or a cache that slips is invisible in short prompts, and loses what a long one said at its beginning.",
    source="ship-two R7: probes beyond position 0; Su et al. 2021 for what the base does",
    severity="P0",
    profiles=("smoke", "release"),
)
def check(judged: Judged) -> Iterator[Finding]:
    """Notes planted early and late are found as in a short copy; no other rotary base reads prose better; the context ends."""
    model = judged.language_model
    yield from _refusal(model)
    yield from _found_again(judged, model)
    yield from _rotary_base(judged, model)


def _refusal(model: LanguageModel) -> Iterator[Finding]:
    """A prompt that fills the context is refused, with the reason."""
    positions = model.session.max_positions
    if positions > _MOST_POSITIONS:
        message = f"the context has {positions} positions: no prompt of that length was made"
        yield Finding("pass", "end-not-tried", message, coverage=Coverage(0, 1, "ends of the context"))
        return
    text = "the " * positions
    try:
        run = model.run(text, regime="raw", max_tokens=1)
    except UsageError as exc:
        message = f"a prompt that fills the context of {positions} positions is refused"
        yield Finding("pass", "refused", message, {"refusal": str(exc)})
        return
    n = len(run.prompt.token_ids)
    if n < positions:  # the tokenizer joins words
        yield Finding(
            "pass",
            "end-not-tried",
            f"a text of {positions} words has {n} tokens",
            coverage=Coverage(0, 1, "ends of the context"),
        )
    else:
        message = f"a prompt of {n} tokens was accepted, and the model is made for {positions} positions"
        yield Finding("fail", "accepted", message, {"position": positions})


def _found_again(judged: Judged, model: LanguageModel) -> Iterator[Finding]:
    """Notes in a long log, asked for at its end; those that the model finds in a short copy of the log must be found."""
    limit = min(_POSITIONS.get(judged.profile, _POSITIONS_RELEASE), model.session.max_positions)
    lines = _passages.log(2 + limit // 16, seed=judged.seed)
    while len(lines) > _SHORT_LINES and _length(model, _passages.with_notes(lines)) > limit - _ROOM:
        lines = lines[: max(_SHORT_LINES, int(len(lines) * 0.97))]
    text, short = _passages.with_notes(lines), _passages.with_notes(lines[:_SHORT_LINES])
    n_positions = _length(model, text)
    coverage = Coverage(n_positions, model.session.max_positions, "positions")
    if n_positions > limit - _ROOM:
        message = f"the context of {model.session.max_positions} positions is too short for a long prompt"
        yield Finding("undecided", "short-context", message, coverage=coverage)
        return
    caches = [PromptCache(model.session) for _ in range(2)]
    measure: dict[str, object] = {"n_positions": n_positions}
    n_known = 0
    for note in (_passages.EARLY, _passages.LATE):
        near, far = (_asked(model, part, note, cache) for part, cache in zip((short, text), caches, strict=True))
        measure[f"{note.id}_margin_short"], measure[f"{note.id}_margin"] = _margin(near, note), _margin(far, note)
        if not _is_right(near, note):
            continue
        n_known += 1
        if not _is_right(far, note):
            message = (
                f"a note is found in a log of {_length(model, short)} tokens, and not in one of {n_positions} in which it stands "
                f"{'at the beginning' if note is _passages.EARLY else 'near the end'}: {far.text!r} in place of {note.answer!r}"
            )
            yield Finding(
                "fail",
                f"lost-{note.id}",
                message,
                {"prompt": note.id, "position": n_positions},
                measure,
                coverage=coverage,
            )
    if n_known:
        message = (
            f"{n_known} of 2 notes are found in a short log, and those were asked for in one of {n_positions} tokens"
        )
        yield Finding("pass", "found", message, measure=measure, coverage=coverage)
    else:
        message = "the model finds no note in a short log either: what it loses in a long one cannot be told"
        yield Finding("undecided", "not-admitted", message, measure=measure, coverage=coverage)


def _rotary_base(judged: Judged, model: LanguageModel) -> Iterator[Finding]:
    """The same prose under other rotary bases: the one that the weights were trained with expects it best."""
    config = model.checkpoint.config
    if config.rope_scaling is not None or judged.model.is_endpoint:
        yield Finding("pass", "base-not-tried", "rotary frequencies are scaled: no other base was tried")
        return
    n = min(_PROSE.get(judged.profile, _PROSE_RELEASE), model.session.max_positions)
    ids = model.tokenizer.with_bos(model.tokenizer.encode(_passages.PROSE))[:n]
    own = _scoring.losses(model.session, ids)
    measure: dict[str, object] = {
        "n_tokens": len(own),
        "rope_theta": config.rope_theta,
        "nats_per_token": float(own.mean()),
    }
    tried = _bases(config.rope_theta, _BASES_TRIED.get(judged.profile, _BASES_TRIED_RELEASE))
    best: tuple[float, _scoring.Difference] | None = None
    for base in tried:
        other = judged.model.with_config(replace(config, rope_theta=base))
        try:
            gap = _scoring.difference(_scoring.losses(other.session, ids), own)
        finally:
            other.close()
        measure[f"nats_more_at_{base:g}"] = gap.mean
        if best is None or gap.mean < best[1].mean:
            best = base, gap
    assert best is not None, "there is always another base"
    base, gap = best
    if gap.mean + _SURE * gap.error < 0:
        message = (
            f"rope_theta is {config.rope_theta:g}, and with {base:g} the model expects the same prose better, by {-gap.mean:.3f} nats "
            f"a token ({-gap.interval[1]:.3f} to {-gap.interval[0]:.3f}): the weights were not trained with what the file says"
        )
        yield Finding(
            "fail",
            "rope-theta",
            message,
            {"key": "rope_theta", "candidate": config.rope_theta, "better": base},
            measure,
            gap.interval,
        )
    else:
        message = f"no other rotary base ({', '.join(f'{b:g}' for b in tried)}) reads {len(own)} tokens of prose better than {config.rope_theta:g}"
        yield Finding("pass", "rope-theta", message, {}, measure, gap.interval)


def _bases(own: float, n: int) -> list[float]:
    """Other bases in use, the nearest above and below first."""
    others = [base for base in _BASES if max(base, own) / min(base, own) >= _NEAREST]
    above = sorted(base for base in others if base > own)
    below = sorted((base for base in others if base < own), reverse=True)
    turns = [base for pair in zip(above, below, strict=False) for base in pair]
    turns += above[len(below) :] + below[len(above) :]
    return turns[:n]


def _asked(model: LanguageModel, text: str, note: Note, cache: PromptCache) -> Run:
    run = model.run(text + note.question, regime="raw", max_tokens=_ANSWER_TOKENS, stop=("\n",), prompt_cache=cache)
    for _ in run:
        pass
    return run


def _is_right(run: Run, note: Note) -> bool:
    return run.text.strip().startswith(note.answer)


def _margin(run: Run, note: Note) -> float | None:
    """Of the answer's first token; None where another was chosen."""
    return run.steps[0].margin if _is_right(run, note) else None


def _length(model: LanguageModel, text: str) -> int:
    return len(model.tokenizer.with_bos(model.tokenizer.encode(text)))
