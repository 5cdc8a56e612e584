"""The one generation: prompt ids in, tokens and text out, step by step. Everything that generates calls `generate`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apr.engines._base import Cache, Session
from apr.engines._sampling import Sampler, Sampling
from apr.errors import UsageError
from apr.kernels.softmax import log_softmax
from apr.models._decoder import Tap, no_tap
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


def generate(
    session: Session,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    *,
    stop: StopRule,
    sampling: Sampling,
    prompt_cache: PromptCache,
    tap: Tap = no_tap,
) -> Iterator[Step]:
    """Prefill `prompt`, then yield one Step a token until the stop rule holds. Raises UsageError for an impossible prompt."""
    if not prompt:
        raise UsageError(
            "the prompt is empty and the model has no beginning-of-text token; give it at least one character"
        )
    if len(prompt) >= session.max_positions:
        raise UsageError(
            f"the prompt has {len(prompt)} tokens, the model is made for {session.max_positions}; shorten it"
        )
    sampler = Sampler(sampling)
    text = _Text(tokenizer, stop.strings)
    seen = list(prompt)
    held = prompt_cache.keep_prefix_of(prompt)
    pending = list(prompt[held:])
    for n_done in range(1, stop.max_tokens + 1):
        logits = session.forward(np.asarray(pending, dtype=np.int64), prompt_cache.cache, tap=tap)[-1]
        prompt_cache.token_ids += pending
        token_id = sampler.choose(logits, seen)
        seen.append(token_id)
        pending = [token_id]
        finish, piece = _after(token_id, text, stop, n_done, len(seen) >= session.max_positions)
        yield _step(token_id, piece, logits, finish)
        if finish is not None:
            return


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


def _step(token_id: int, piece: str, logits: np.ndarray, finish: FinishReason | None) -> Step:
    n_top = min(TOP_LOGPROBS, logits.size)
    best = np.argpartition(logits, -n_top)[-n_top:]
    best = best[np.lexsort((best, -logits[best]))]
    logs = log_softmax(logits)
    return Step(
        token_id=token_id,
        text=piece,
        logprob=float(logs[token_id]),
        top=tuple((int(i), float(logs[i])) for i in best),
        margin=float(logits[best[0]] - logits[best[1]]) if n_top > 1 else float("inf"),
        finish=finish,
    )


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
