"""Run a prompt once and look at every slot: `trace`. Figures first; whole tensors, if they are wanted, in a second pass.

The pass is the engine's own, the one that generates; nothing is recomputed. The prompt is tokenised with the model's
tokenizer as we read it, whatever the engine, so that two engines are asked the same question.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

import apr.engines
from apr import _folder
from apr.engines import _prompt
from apr.engines._base import Activations, Session
from apr.engines._generate import check_prompt
from apr.engines._prompt import Regime
from apr.engines._record import TemplateUse, switches_in_force
from apr.engines._sampling import summarize
from apr.engines._statistics import Statistics
from apr.engines._subject import Subject
from apr.errors import AprError, EngineError, InternalError, UnsupportedError
from apr.hub import digest
from apr.kernels.statistics import COLUMNS
from apr.models._decoder import Span, Tap
from apr.tokenizer.tokenizer import Tokenizer
from apr.trace import store
from apr.trace.record import (
    BFLOAT16_MAX,
    FLOAT16_MAX,
    LayerRange,
    NonFinite,
    SlotTrace,
    TopToken,
    Trace,
    TraceHeader,
    figures_of,
    parts_of,
    token_ids_sha256,
)
from apr.trace.selection import Selection

TOP_TOKENS = 10
_COUNT, _MIN, _MAX, _NAN, _INF = (COLUMNS.index(name) for name in ("count", "min", "max", "nan", "inf"))

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Question:
    """What a pass is about.

    text:      what was tokenised, template included
    template:  what was done about it; None where the ids were given
    """

    text: str
    token_ids: tuple[int, ...]
    template: TemplateUse | None


def trace(
    model: str | Path | Subject,
    prompt: str,
    *,
    regime: Regime = "auto",
    system: str | None = None,
    control: Literal["text", "token"] = "text",
    selection: Selection | None = None,
    save: Path | None = None,
    threads: int | None = None,
    activations: Activations = "float32",
) -> Trace:
    """Run a prompt through a model, `PATH[@ENGINE]` or a subject, and say what happened in every slot.

    regime, system, control:  of the prompt, as `apr run` has them
    selection:  which slots, layers and positions to keep
    save:       a new .npz or .safetensors with the whole tensors of what is kept
    threads, activations:  of the engine; a subject that is already made has its own
    Raises      UnsupportedError for an engine that cannot be looked into, UsageError for what cannot be chosen or
                written, and what loading the model raises. Values that are not finite are a finding, not an error.
    """
    if save is not None:
        store.check_target(save)
    subject = Subject.of(model, threads=threads, activations=activations)
    try:
        require_taps(subject)
        question = ask(subject, prompt, regime=regime, system=system, control=control)
        made = capture(subject, question, selection or Selection())
        return made if save is None else keep(subject, made, save)
    finally:
        if subject is not model:
            subject.close()


def require_taps(subject: Subject) -> None:
    """Raise UnsupportedError, naming the engine, unless its slots can be seen."""
    if "taps" in subject.capabilities:
        return
    names = _folder.names(apr.engines.__name__)
    known = [name for name in names if "taps" in _folder.load(apr.engines.__name__, name).CAPABILITIES]
    raise UnsupportedError(f"{subject.name}: the engine {subject.engine!r} shows nothing of its inside", known=known)


def ask(
    subject: Subject,
    prompt: str,
    *,
    regime: Regime = "auto",
    system: str | None = None,
    control: Literal["text", "token"] = "text",
) -> Question:
    """A prompt as `apr run` would make it. Raises UsageError, TemplateError, TokenizerError."""
    template = subject.template
    made = _prompt.of_text(prompt, subject.tokenizer, template, regime=regime, system=system, control=control)
    origin, sha256 = (template.origin, template.sha256) if template else (None, None)
    return Question(made.text, made.token_ids, TemplateUse(origin, sha256, made.decision, made.reason))


def capture(subject: Subject, question: Question, selection: Selection, *, progress: Progress | None = None) -> Trace:
    """Run a question once and keep the figures of what was chosen.

    progress:  called with the bytes of each slot that has been seen
    """
    session, ids = subject.session, question.token_ids
    check_prompt(session, ids)
    positions = selection.choose_positions(len(ids))
    started = time.perf_counter()
    tap = _Watched(progress)
    logits = forward(session, ids, tap, is_broken=lambda: _first_nonfinite(tap.slots()) is not None)
    seconds = time.perf_counter() - started
    figures = tap.slots()
    _check_rows(subject, figures, len(ids))
    slots = [_slot(slot, figures[slot][list(positions)]) for slot in selection.choose_slots(figures)]
    last = logits[-1] if logits is not None else _last_row(session, ids, figures)
    top = _top(last, subject.tokenizer) if last is not None else ()
    found = _first_nonfinite(figures)
    ranges = _ranges(figures)
    return Trace(
        header=header(
            subject, question, positions, prompt_tokens=tuple(_text(subject.tokenizer, token_id) for token_id in ids)
        ),
        slots=tuple(slots),
        top=top,
        margin=top[0].logit - top[1].logit if len(top) > 1 else None,
        first_nonfinite=found,
        ranges=ranges,
        highest=max(ranges, key=lambda r: r.max_abs, default=None),
        file=None,
        file_bytes=None,
        seconds=seconds,
        exit_code=0 if found is None else 1,
    )


def keep(subject: Subject, made: Trace, path: Path, *, progress: Progress | None = None) -> Trace:
    """Run a trace's question again and write the tensors of its slots and positions to `path`; the trace, with the file.

    Raises UsageError if the disk has no room for them.
    """
    started = time.perf_counter()
    rows = list(made.header.positions)
    seconds = made.seconds
    with store.writing(path, made) as put:

        def tap(slot: str, value: np.ndarray) -> np.ndarray:
            if slot in put.wanted:
                put(slot, value[rows])
            if progress is not None:
                progress(value.nbytes)
            return value

        forward(subject.session, made.header.prompt_token_ids, tap, is_broken=lambda: made.first_nonfinite is not None)
        seconds += time.perf_counter() - started
    return dataclasses.replace(made, file=str(path), file_bytes=path.stat().st_size, seconds=seconds)


def forward(
    session: Session, token_ids: Sequence[int], tap: Tap, *, is_broken: Callable[[], bool]
) -> np.ndarray | None:
    """One pass over all positions: float32 [n_positions, vocab_size].

    A session refuses logits that are not finite, after its taps have seen every slot: where `is_broken` says that this
    was to be expected, the answer is None.
    """
    span = Span(np.asarray(token_ids, dtype=np.int64), session.new_cache())
    try:
        # what is not finite is reported as a finding, and not by NumPy as a warning
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            return session.forward([span], tap=tap, rows="all")
    except EngineError:
        if not is_broken():
            raise
        return None


def header(
    subject: Subject, question: Question, positions: tuple[int, ...], *, prompt_tokens: tuple[str, ...]
) -> TraceHeader:
    """What runs on what. Hashes the model the first time."""
    session, file = subject.session, subject.file
    return TraceHeader(
        model=subject.name,
        model_format=file.format,
        model_sha256=digest.of_files(file.files),
        tensors_sha256=digest.remembered(file.files, "tensors", subject.checkpoint.content_sha256),
        tokenizer_sha256=_tokenizer_sha256(subject),
        engine=session.engine,
        engine_version=session.engine_version,
        kernel_set=session.kernel_set,
        instruction_set=session.instruction_set,
        activations=session.activations,
        kv_cache=session.kv_cache_dtype,
        threads=session.threads,
        template=question.template,
        prompt_text=question.text,
        prompt_token_ids=question.token_ids,
        prompt_tokens=prompt_tokens,
        token_ids_sha256=token_ids_sha256(question.token_ids),
        positions=positions,
        environment=switches_in_force(),
    )


def _tokenizer_sha256(subject: Subject) -> str | None:
    """None where it cannot be read: token ids that were given need none."""
    try:
        return subject.tokenizer.sha256
    except AprError:
        return None


class _Watched(Statistics):
    """The tap that keeps figures, and says how far it is."""

    def __init__(self, progress: Progress | None) -> None:
        super().__init__()
        self._progress = progress

    def add(self, name: str, rows: np.ndarray) -> None:
        """Note the figures of a slot's next rows, float64 [rows, 8]."""
        super().add(name, rows)
        if self._progress is not None:
            self._progress(int(rows[:, _COUNT].sum()) * 4)  # float32


def _check_rows(subject: Subject, figures: Mapping[str, np.ndarray], n_positions: int) -> None:
    """Figures over other positions than the prompt's must never be taken for them."""
    if not figures:
        raise InternalError(f"the engine {subject.engine!r} says that it has taps, and showed no slot")
    for slot, rows in figures.items():
        if len(rows) != n_positions:
            raise InternalError(
                f"the engine {subject.engine!r} showed {len(rows)} rows of {slot} for {n_positions} positions"
            )


def _slot(slot: str, rows: np.ndarray) -> SlotTrace:
    layer, name = parts_of(slot)
    return SlotTrace(slot, layer, name, (len(rows), int(rows[0, _COUNT])), figures_of(rows))


def _has_nonfinite(rows: np.ndarray) -> bool:
    return bool(rows[:, [_NAN, _INF]].any())


def _first_nonfinite(figures: Mapping[str, np.ndarray]) -> NonFinite | None:
    for slot, rows in figures.items():
        if _has_nonfinite(rows):
            position = int(np.flatnonzero(rows[:, [_NAN, _INF]].any(axis=1))[0])
            return NonFinite(slot, parts_of(slot)[0], position, int(rows[position, _NAN]), int(rows[position, _INF]))
    return None


def _ranges(figures: Mapping[str, np.ndarray]) -> tuple[LayerRange, ...]:
    """Of each layer, and of each slot outside of the layers, in the order of the pass."""
    found: dict[int | str, LayerRange] = {}
    for slot, rows in figures.items():
        layer, _ = parts_of(slot)
        reach = np.fmax(np.abs(rows[:, _MIN]), np.abs(rows[:, _MAX]))  # NaN where no value is finite
        if np.isnan(reach).all():
            continue
        position = int(np.nanargmax(reach))
        most = float(reach[position])
        key = slot if layer is None else layer
        if key not in found or most > found[key].max_abs:
            found[key] = LayerRange(layer, slot, position, most, most / FLOAT16_MAX, most / BFLOAT16_MAX)
    return tuple(found.values())


def _last_row(session: Session, token_ids: Sequence[int], figures: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The logits of the last position, float32 [vocab_size], where only earlier ones are not finite; else None."""
    if "logits" not in figures or _has_nonfinite(figures["logits"][-1:]):
        return None
    span = Span(np.asarray(token_ids, dtype=np.int64), session.new_cache())
    row: np.ndarray = session.forward([span], rows="last")[0]
    return row


def _top(logits: np.ndarray, tokenizer: Tokenizer) -> tuple[TopToken, ...]:
    """The most likely tokens, most likely first."""
    summary = summarize(np.ascontiguousarray(logits), min(TOP_TOKENS, logits.size))
    return tuple(
        TopToken(
            token_id, _text(tokenizer, token_id), float(logits[token_id]), float(logits[token_id]) - summary.log_sum
        )
        for token_id in np.asarray(summary.top).tolist()
    )


def _text(tokenizer: Tokenizer, token_id: int) -> str:
    """A token as text; rows of the logits beyond the vocabulary are padding."""
    if token_id >= tokenizer.vocab_size:
        return f"[padding {token_id}]"
    return tokenizer.text_of(token_id).decode("utf-8", "replace")
