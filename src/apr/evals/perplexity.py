"""Perplexity of a text, in windows that overlap; against a reference, the ratio to it and the divergence from it.

Each token is predicted once, with at least `window - stride` tokens before it but at the beginning of the text. The logits
are those of the session behind `apr run`, of every position in one pass.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import apr
from apr.engines import _prompt
from apr.engines._subject import Subject
from apr.errors import UsageError
from apr.evals._options import Options
from apr.evals._report import EvalReport, Score, exit_code_of
from apr.hub import digest
from apr.parity._divergence import Divergence, diverge, joined, log_probabilities, mean_interval
from apr.parity._teacher_forced import VocabularyMismatch, aligned, rows_of

OPTIONS = frozenset({"text", "reference", "window", "stride"})
INCONCLUSIVE = 5


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens that are looked at together.

    start, end:  of the ids
    first:       of the ids in it, the first that is predicted here: those before it were predicted by another window
    """

    start: int
    end: int
    first: int


@dataclass(frozen=True, slots=True)
class Losses:
    """Of every predicted token: -log p in nats by the model and by the reference, float64 [n]; and of which window it is."""

    model: np.ndarray
    reference: np.ndarray | None
    chunks: np.ndarray
    divergence: Divergence | None


def run(options: Options) -> EvalReport:
    """Measure. Raises UsageError without a text, and for one that is too short."""
    started = time.perf_counter()
    if options.text is None:
        raise UsageError("--task perplexity needs --text FILE")
    data = options.text.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError(f"{options.text}: byte {exc.start} is not UTF-8; give a text") from exc
    with Subject.of(options.model, threads=options.threads, activations=options.activations) as subject:
        ids = _prompt.of_text(text, subject.tokenizer, None, regime="raw").token_ids
        every = windows(len(ids), window=_window(options, subject), stride=options.stride)
        chosen = every[: options.limit]
        refused = ""
        if options.reference is None:
            losses = measure(subject, None, ids, chosen, options)
        else:
            with Subject.of(options.reference, threads=options.threads, activations=options.activations) as reference:
                refused = other_ids(text, ids, subject, reference)
                losses = measure(subject, None if refused else reference, ids, chosen, options)
        scores = _scores(losses, len(chosen), len(every), options.seed, refused)
        return EvalReport(
            task="perplexity",
            model=subject.name,
            model_sha256=digest.of_files(subject.file.files),
            reference=options.reference,
            scores=scores,
            items=(),
            self_test=None,
            confinement={},
            settings={
                "apr": apr.__version__,
                "engine": subject.engine,
                "activations": options.activations,
                "text_sha256": hashlib.sha256(data).hexdigest(),
                "window": _window(options, subject),
                "stride": options.stride or _window(options, subject) // 2,
                "n_tokens": len(ids),
                "n_predicted": len(losses.model),
                "seed": options.seed,
            },
            journal=None,
            n_resumed=0,
            n_cut_bytes=0,
            shards=1,
            seconds=time.perf_counter() - started,
            exit_code=INCONCLUSIVE if refused else exit_code_of(scores),
        )


def windows(n_ids: int, *, window: int, stride: int | None) -> list[Window]:
    """Windows over ids 0 … n_ids - 1 that predict each of 1 … n_ids - 1 once; half overlap unless `stride` says otherwise.

    Raises UsageError for less than two ids, and for a stride over the window: tokens would be left out.
    """
    step = stride or max(1, window // 2)
    if step >= window:
        raise UsageError(f"--stride {step} leaves no token before the next of --window {window}; give a smaller stride")
    if n_ids < 2:
        raise UsageError(f"the text has {n_ids} tokens; two are the least that can be predicted from one another")
    made, predicted = [], 1
    for start in range(0, n_ids, step):
        end = min(start + window, n_ids)
        made.append(Window(start, end, predicted))
        predicted = end
        if end == n_ids:
            return made
    raise AssertionError("the last window ends with the text")


def measure(
    subject: Subject, reference: Subject | None, ids: Sequence[int], chosen: Sequence[Window], options: Options
) -> Losses:
    """The loss of every token that the windows predict."""
    parts = []
    for i, (window, (rows, others)) in enumerate(zip(chosen, _logits(subject, reference, ids, chosen), strict=True)):
        if options.progress is not None:
            options.progress(f"chunk {i + 1} of {len(chosen)}", i / len(chosen))
        target = np.asarray(ids[window.first : window.end])
        part = (
            _losses(rows, target),
            _losses(others, target) if others is not None else None,
            diverge(others, rows, list(target)) if others is not None else None,
        )
        parts.append(part)
    chunks = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    theirs = [part[1] for part in parts if part[1] is not None]
    divergences = [part[2] for part in parts if part[2] is not None]
    return Losses(
        model=np.concatenate([part[0] for part in parts]),
        reference=np.concatenate(theirs) if theirs else None,
        chunks=chunks,
        divergence=joined(divergences) if divergences else None,
    )


def _logits(
    subject: Subject, reference: Subject | None, ids: Sequence[int], chosen: Sequence[Window]
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Of each window, the rows that predict: float32 [n, vocab_size], of the model and of the reference."""
    for window in chosen:
        # the last id predicts nothing that is in the window
        given = list(ids[window.start : window.end - 1])
        predicting = slice(window.first - 1 - window.start, None)
        rows = rows_of(subject.session, given)[predicting]
        if reference is None:
            yield rows, None
            continue
        others = rows_of(reference.session, given)[predicting]
        try:
            others, rows = aligned(others, rows, reference)
        except VocabularyMismatch as exc:
            raise UsageError(f"{subject.name} and {reference.name}: {exc}") from exc
        yield rows, others


def _losses(rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    """float64 [n]: -log p of the next token; nan where a row is not finite."""
    found = np.empty(len(target))
    for at in range(0, len(target), 64):  # a float64 copy of 64 rows is 78 MB at a vocabulary of 150,000
        piece = slice(at, at + 64)
        log_p = log_probabilities(rows[piece])
        found[piece] = -log_p[np.arange(len(log_p)), target[piece]]
    return found


def _scores(losses: Losses, n: int, n_all: int, seed: int, refused: str) -> tuple[Score, ...]:
    """refused: why the reference was not compared with; empty if it was, or if there is none."""

    def score(name: str, values: np.ndarray, *, is_log: bool) -> Score:
        n_lost = int(np.sum(~np.isfinite(values)))
        note = f"{n_lost} of {len(values)} positions have no finite value" if n_lost else ""
        if n_lost:  # leaving them out would improve the mean
            return Score(name, None, None, None, "", n, n_all, "chunks", None, note)
        value, (low, high) = float(values.mean()), mean_interval(values, losses.chunks, seed=seed)
        if is_log:
            value, low, high = (float(np.exp(figure)) for figure in (value, low, high))
        return Score(name, None, value, (low, high), "bootstrap", n, n_all, "chunks", None, note)

    found = [score("perplexity", losses.model, is_log=True)]
    if refused:
        found.append(Score("perplexity_ratio", None, None, None, "", 0, n_all, "chunks", None, refused))
    if losses.reference is not None and losses.divergence is not None:
        same_top = (~losses.divergence.is_flip).astype(np.float64)
        found += [
            score("reference_perplexity", losses.reference, is_log=True),
            score("perplexity_ratio", losses.model - losses.reference, is_log=True),
            score("kl_mean", losses.divergence.kl, is_log=False),
            score("top1_agreement", same_top, is_log=False),
        ]
    return tuple(found)


def _window(options: Options, subject: Subject) -> int:
    return min(options.window, subject.config.max_position_embeddings)


def other_ids(text: str, ids: Sequence[int], subject: Subject, reference: Subject) -> str:
    """Why the two cannot be compared: they read the text as other tokens. Empty if they do not."""
    theirs = _prompt.of_text(text, reference.tokenizer, None, regime="raw").token_ids
    if tuple(theirs) == tuple(ids):
        return ""
    at = next((i for i, (a, b) in enumerate(zip(ids, theirs, strict=False)) if a != b), min(len(ids), len(theirs)))
    return (
        f"{subject.name} and {reference.name} read the text as other tokens, from token {at} on: their perplexities cannot "
        f"be compared; next: apr why {reference.name} {subject.name}"
    )
