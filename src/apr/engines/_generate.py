"""The one generation: prompt ids in, tokens and text out, step by step. Everything that generates calls `generate`.

Several sequences share each forward pass, whatever their lengths; each has its own sampler, stop rule and text, so that
it ends up with what it would have been given alone.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from apr.engines._base import Cache, Session
from apr.engines._sampling import Sampler, Sampling, summarize
from apr.errors import UsageError
from apr.models._decoder import Span, Tap, no_tap
from apr.tokenizer.tokenizer import Tokenizer

FinishReason = Literal["eos", "stop_string", "length", "context_full", "interrupted"]
TOP_LOGPROBS = 5


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a generation ends: at these ids (not part of the text), at these strings (cut off), after so many tokens."""

    max_tokens: int
    token_ids: frozenset[int] = frozenset()
    strings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One generated token.

    text:       what it adds to the visible text (may be empty: half a character, or a possible stop string held back)
    logprob:    of the token, natural logarithm, before any sampling transform
    top:        the TOP_LOGPROBS most likely (id, logprob), most likely first
    margin:     z₁ - z₂, the distance in logits between the two most likely tokens
    finish:     why the generation ends here; None if it goes on
    """

    token_id: int
    text: str
    logprob: float
    top: tuple[tuple[int, float], ...]
    margin: float
    finish: FinishReason | None


class PromptCache:
    """A session's cache with the ids that it holds, so that a prompt that begins alike is not computed twice."""

    def __init__(self, session: Session) -> None:
        self.cache: Cache = session.new_cache()
        self.token_ids: list[int] = []

    def keep_prefix_of(self, prompt: Sequence[int]) -> int:
        """Forget what `prompt` does not begin with; return how many of its ids are held (at most all but the last)."""
        # an interrupted pass may have left the cache shorter than the ids
        held = self.token_ids[: self.cache.length]
        limit = min(len(held), len(prompt) - 1)
        common = next((i for i in range(limit) if held[i] != prompt[i]), limit)
        self.cache.truncate(common)
        self.token_ids = held[:common]
        return common


class Generation:
    """One sequence: what is asked, and, as `generate` brings it on, what has come of it.

    prompt_cache:          what it holds of the prompt is not computed again, and what is computed stays in it; None
                           computes all and keeps nothing. No two sequences of one `generate` may share one
    steps:                 one a generated token
    times:                 of `time.perf_counter`: when it joined a batch, then when each step was there
    cached_prompt_tokens:  of the prompt, held by the prompt cache
    batch:                 the most sequences that shared a forward pass with it, itself included; 0 before the first
    """

    def __init__(
        self,
        prompt: Sequence[int],
        *,
        stop: StopRule,
        sampling: Sampling | None = None,
        prompt_cache: PromptCache | None = None,
    ) -> None:
        self.prompt = prompt
        self.stop = stop
        self.sampling = sampling or Sampling()
        self.prompt_cache = prompt_cache
        self.steps: list[Step] = []
        self.times: list[float] = []
        self.cached_prompt_tokens = 0
        self.batch = 0

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended; "interrupted" if it has not ended by itself."""
        return (self.steps[-1].finish if self.steps else None) or "interrupted"


def check_prompt(session: Session, prompt: Sequence[int]) -> None:
    """Raise UsageError for a prompt that no token can follow: an empty one, or one as long as the model is made for."""
    if not prompt:
        raise UsageError(
            "the prompt is empty and the model has no beginning-of-text token; give it at least one character"
        )
    if len(prompt) >= session.max_positions:
        raise UsageError(
            f"the prompt has {len(prompt)} tokens, the model is made for {session.max_positions}; shorten it"
        )


def generate(
    session: Session,
    tokenizer: Tokenizer,
    generations: Iterable[Generation],
    *,
    batch_size: int = 1,
    tap: Tap = no_tap,
) -> Iterator[tuple[int, Step]]:
    """Bring every generation to its end; yield each new token with the index of its generation.

    At most `batch_size` sequences are on the way at a time; when one ends, the next of `generations` is taken and its
    prompt is computed in the same pass as the others' next tokens. Raises UsageError as `check_prompt` does.
    """
    waiting = enumerate(generations)
    active: list[_Sequence] = []
    while True:
        active += [_Sequence(session, tokenizer, i, g) for i, g in islice(waiting, batch_size - len(active))]
        if not active:
            return
        logits = session.forward([sequence.span() for sequence in active], tap=tap)
        for sequence in active:
            sequence.count_pass(len(active))
        for sequence, row in zip(active, logits, strict=True):
            yield sequence.index, sequence.step(row)
        active = [sequence for sequence in active if not sequence.is_finished]


class _Sequence:
    """A generation that is on its way: what has to be remembered between two passes."""

    def __init__(self, session: Session, tokenizer: Tokenizer, index: int, generation: Generation) -> None:
        assert not generation.times, "a generation runs once"
        check_prompt(session, generation.prompt)
        generation.times.append(time.perf_counter())
        self.index = index
        self.is_finished = False
        self._generation = generation
        self._sampler = Sampler(generation.sampling)
        self._text = _Text(tokenizer, generation.stop.strings)
        self._kept = generation.prompt_cache or PromptCache(session)
        self._max_positions = session.max_positions
        self._seen = array("q", generation.prompt)
        generation.cached_prompt_tokens = self._kept.keep_prefix_of(generation.prompt)
        self._pending = list(generation.prompt[generation.cached_prompt_tokens :])

    def span(self) -> Span:
        """What the next pass has to compute of it."""
        return Span(np.array(self._pending, dtype=np.int64), self._kept.cache)

    def count_pass(self, n_sequences: int) -> None:
        """Remember that the pending tokens are computed, in the company of so many sequences."""
        self._kept.token_ids += self._pending
        self._generation.batch = max(self._generation.batch, n_sequences)

    def step(self, logits: np.ndarray) -> Step:
        """Choose the next token from its logits, float32 [vocab_size]."""
        summary = summarize(logits, min(TOP_LOGPROBS, logits.size))
        best: list[int] = summary.top.tolist()
        values: list[float] = logits[summary.top].tolist()
        token_id = self._sampler.choose(logits, self._seen, best=best[0])
        self._seen.append(token_id)
        self._pending = [token_id]
        is_full = len(self._seen) >= self._max_positions
        finish, piece = _after(token_id, self._text, self._generation.stop, len(self._generation.steps) + 1, is_full)
        step = Step(
            token_id=token_id,
            text=piece,
            logprob=logits.item(token_id) - summary.log_sum,
            top=tuple((i, value - summary.log_sum) for i, value in zip(best, values, strict=True)),
            margin=values[0] - values[1] if len(values) > 1 else float("inf"),
            finish=finish,
        )
        self._generation.steps.append(step)
        self._generation.times.append(time.perf_counter())
        self.is_finished = finish is not None
        return step


def _after(token_id: int, text: _Text, stop: StopRule, n_done: int, is_full: bool) -> tuple[FinishReason | None, str]:
    """Whether this token ends the generation and why, and the text that it makes visible."""
    if token_id in stop.token_ids:
        return "eos", text.finish()
    piece = text.put(token_id)
    if text.is_stopped:
        return "stop_string", piece
    if n_done >= stop.max_tokens:
        return "length", piece + text.finish()
    if is_full:
        return "context_full", piece + text.finish()
    return None, piece


class _Text:
    """Streamed text that never shows the beginning of a stop string before it is clear that it is none."""

    def __init__(self, tokenizer: Tokenizer, stop_strings: tuple[str, ...]) -> None:
        self._stream = tokenizer.stream_after_text()  # what is generated goes on with the prompt
        self._strings = tuple(s for s in stop_strings if s)
        self._held = ""
        self.is_stopped = False

    def put(self, token_id: int) -> str:
        """The text that may be shown after this token."""
        return self._release(self._stream.put(token_id))

    def finish(self) -> str:
        """What is left at the end."""
        if self.is_stopped:
            return ""
        shown = self._release(self._stream.finish())
        rest, self._held = self._held, ""  # nothing, if a stop string has just been found
        return shown + rest

    def _release(self, piece: str) -> str:
        self._held += piece
        found = [at for at in (self._held.find(s) for s in self._strings) if at >= 0]
        if found:
            self.is_stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = max((_overlap(self._held, s) for s in self._strings), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    for n in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:n]):
            return n
    return 0
