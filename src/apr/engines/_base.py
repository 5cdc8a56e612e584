"""What an engine is: a file that says what it is capable of, and can `load` a checkpoint into a session or a voice.

A `Session` turns token ids into logits. A `Voice` turns text into token ids and conversations into text, as the engine
itself does it; an engine that has none of its own speaks with the model's tokenizer and template as we read them. An
`Endpoint` is all that is left of an engine behind a network: text in, text out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from apr.errors import EngineError
from apr.models._checkpoint import Checkpoint
from apr.models._decoder import Cache, Span, Tap, no_tap

__all__ = [
    "Activations",
    "Answer",
    "Cache",
    "Capability",
    "Endpoint",
    "Loader",
    "Rows",
    "Session",
    "Span",
    "Voice",
    "check_logits",
    "check_spans",
    "read_only",
]

# "logits": a Session; "taps": its taps see slots; "forcing": what a tap returns is computed on; "voice": it has
# a tokenizer and a template of its own; "text", "top_logprobs": an Endpoint, and whether it gives log-probabilities
Capability = Literal["logits", "taps", "forcing", "voice", "text", "top_logprobs"]

Rows = Literal["last", "all"]
# "int8": rounded to 8 bits in blocks of 32 before they meet a quantised weight; "float32": exact
Activations = Literal["int8", "float32"]


class Session(Protocol):
    """A loaded model.

    Its properties say what computes, for the run record: engine and version; the kernel set ("native" or "numpy") and
    the instruction set in use; threads; how activations are held in products and in the key-value cache.
    """

    @property
    def engine(self) -> str: ...
    @property
    def engine_version(self) -> str: ...
    @property
    def kernel_set(self) -> str: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def activations(self) -> str: ...
    @property
    def kv_cache_dtype(self) -> str: ...
    @property
    def max_positions(self) -> int:
        """The longest sequence that the model is made for."""

    def new_cache(self) -> Cache:
        """An empty cache for one sequence."""

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Logits after the new tokens of one or more sequences, whose caches move on by as many positions.

        spans:   each a sequence's new token ids and its cache (all different); lengths may differ
        tap:     called once with every slot's name and value; a value is read-only, and another that is returned is
                 computed on in its place
        rows:    "last": one row a sequence; "all": one row a token
        Returns  float32 [n_sequences or n_tokens, vocab_size]
        Raises   EngineError for an id outside the vocabulary, and for logits that are not finite
        """


class Voice(Protocol):
    """How an engine itself reads and writes text; made without loading the weights. `close` releases what it holds."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a raw prompt, in which all is text; the engine's own beginning-of-text rule included."""

    def encode_rendered(self, text: str) -> list[int]:
        """Token ids of a rendered conversation: control tokens count, and the engine adds what it adds to those."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, control tokens as their names."""

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        """A conversation through the engine's chat template, the answer's header included; None if it has no template."""

    def close(self) -> None:
        """Release what it holds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint wrote.

    token_ids:     of the text where the endpoint tells them, else empty
    logprobs:      of each token it wrote, natural logarithm; empty if it gives none
    top:           the most likely (token text, logprob) at each step, most likely first; empty if it gives none
    finish_reason: in the endpoint's own word
    """

    text: str
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top: tuple[tuple[tuple[str, float], ...], ...]
    finish_reason: str


class Endpoint(Protocol):
    """A model behind a network."""

    @property
    def engine(self) -> str: ...
    @property
    def engine_version(self) -> str: ...
    @property
    def model(self) -> str:
        """The name under which the endpoint serves it."""

    def complete(self, prompt: str, *, max_tokens: int, seed: int = 0) -> Answer:
        """Continue a text greedily, without a template. Raises EngineError."""

    def chat(self, messages: Sequence[Mapping[str, Any]], *, max_tokens: int, seed: int = 0) -> Answer:
        """Answer a conversation greedily, through the endpoint's own template. Raises EngineError."""

    def close(self) -> None:
        """Hang up."""


class Loader(Protocol):
    """The `load` of an engine's file."""

    def __call__(
        self,
        checkpoint: Checkpoint,
        *,
        threads: int,
        activations: Activations = "int8",
        progress: Callable[[int], None] | None = None,
    ) -> Session:
        """Make a session. `progress` is called with bytes of tensors as they are ready. Raises EngineError.

        activations:  the least exact form allowed; a session says which it uses
        """


def check_spans(spans: Sequence[Span], *, vocab_size: int) -> None:
    """Raise EngineError for a sequence without tokens, and for an id outside the vocabulary."""
    for span in spans:
        ids = span.token_ids
        if ids.size == 0 or ids.min() < 0 or ids.max() >= vocab_size:
            raise EngineError(f"token ids {ids.tolist()[:8]} are not all within the model's vocabulary of {vocab_size}")


def check_logits(logits: np.ndarray, spans: Sequence[Span]) -> None:
    """Raise EngineError for logits that are not finite: no token can be chosen from them."""
    # a NaN is both the least and the greatest of all
    if not (math.isfinite(logits.min()) and math.isfinite(logits.max())):
        last = max(span.cache.length for span in spans) - 1
        raise EngineError(
            f"the logits up to position {last} are not finite; `apr validate` finds a damaged weight, if that is the cause"
        )


def read_only(tap: Tap) -> Tap:
    """The tap, with values that it cannot change in place: what is computed on is what it returns."""
    if tap is no_tap:
        return tap

    def guarded(name: str, value: np.ndarray) -> np.ndarray:
        shown = value.view()
        shown.flags.writeable = False
        returned = tap(name, shown)
        return value if returned is shown else returned

    return guarded
