"""An engine that says what a test wrote down, so that gates which judge answers can be tested without a model that has any.

    path = scripted.write(folder)
    said = scripted.Script(path, {scripted.raw("Once upon"): " a time"})
    Subject(path, loader=said.loader())

Its tokenizer knows the words of the golden set, so that an answer is a few tokens. Every distribution has the scripted token
on top, `margin` logits before the next; a prompt that is not in the script gets the end of turn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tiny
from apr.engines._base import Rows, Session
from apr.engines._subject import Subject
from apr.models._decoder import Span, Tap, no_tap
from apr.qa import _golden
from apr.tokenizer.byte_alphabet import CHAR_OF_BYTE
from apr.tokenizer.spec import TokenizerSpec, TokenType

CONTEXT = 4096
Ids = tuple[int, ...]


def spec(*, chat_template: str | None = tiny.CHATML) -> TokenizerSpec:
    """Bytes, the answers of the golden set with a space before them, three control tokens."""
    words = {word for golden in _golden.GOLDEN for answer in golden.answers for word in answer.split()}
    words |= {"xylophone", "marble", "Biscuit", "the", "return", "Step", "lighthouse"}
    tokens = [CHAR_OF_BYTE[byte] for byte in range(256)]
    merges: list[str] = []
    for word in sorted(words):
        chars = [CHAR_OF_BYTE[byte] for byte in f" {word}".encode()]
        left = chars[0]
        for char in chars[1:]:
            merges.append(f"{left} {char}")
            left += char
            tokens.append(left)
    tokens, merges = list(dict.fromkeys(tokens)), list(dict.fromkeys(merges))
    first = len(tokens)
    tokens += ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return TokenizerSpec(
        kind="bpe",
        tokens=tokens,
        token_types=[int(TokenType.NORMAL)] * first + [int(TokenType.CONTROL)] * 3,
        merges=merges,
        pre="gpt-2",
        eos_token_id=first + 2,
        pad_token_id=first,
        stop_token_ids=(first, first + 2),
        chat_template=chat_template,
    )


def write(folder: Path, *, name: str = "model.gguf", chat_template: str | None = tiny.CHATML, **config: Any) -> Path:
    """A file with that tokenizer around a tiny model, whose weights nobody reads."""
    tokenizer = spec(chat_template=chat_template)
    made = tiny.config("llama", vocab_size=len(tokenizer.tokens), max_position_embeddings=CONTEXT)
    path = tiny.write(folder, "gguf", dataclasses.replace(made, **config), tokenizer=tokenizer)
    return path.rename(path.with_name(name))


@dataclasses.dataclass(frozen=True)
class Asked:
    """A prompt as a gate asks it."""

    prompt: str
    regime: str


def raw(prompt: str) -> Asked:
    """A text to go on with."""
    return Asked(prompt, "raw")


def chat(prompt: str) -> Asked:
    """A question through the template."""
    return Asked(prompt, "chat")


class Script:
    """What is said after which prompt."""

    def __init__(self, path: Path, answers: Mapping[Asked, str], *, ends: bool = True) -> None:
        """ends: after an answer comes the end of turn; else it is said again and again."""
        with Subject(path, "fake") as subject:
            model = subject.language_model
            self.end = model.tokenizer.encode_control("<|im_end|>")[0]
            self.answers: dict[Ids, Ids] = {}
            for asked, text in answers.items():
                regime: Any = asked.regime if model.template is not None else "raw"
                ids = model.run(asked.prompt, regime=regime).prompt.token_ids
                self.answers[ids] = tuple(model.tokenizer.encode(text))
        self.ends = ends

    def next(self, history: Ids) -> int:
        """The token that follows."""
        known = [prompt for prompt in self.answers if history[: len(prompt)] == prompt]
        if not known:
            return self.end
        prompt = max(known, key=len)
        said, answer = len(history) - len(prompt), self.answers[prompt]
        if said >= len(answer):
            return self.end if self.ends or not answer else answer[said % len(answer)]
        return answer[said]

    def loader(self, change: Callable[[ScriptedSession], None] | None = None, **options: Any) -> Callable[..., Session]:
        """For `Subject(loader=…)`. change: a planted defect; options: see `ScriptedSession`."""

        def load(checkpoint: Any, *, threads: int, activations: str = "int8", progress: Any = None) -> ScriptedSession:
            del progress
            session = ScriptedSession(checkpoint, self.next, threads=threads, activations=activations, **options)
            if change is not None:
                change(session)
            return session

        return load


class _History:
    """The ids so far, in the place of keys and values."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    @property
    def length(self) -> int:
        return len(self.ids)

    def truncate(self, length: int) -> None:
        del self.ids[length:]


class ScriptedSession:
    """A session that knows by heart.

    next_of:  history -> next token; margin: logits between it and the next; noise: on every logit when taps look on
    """

    engine = engine_version = kernel_set = instruction_set = "scripted"
    kv_cache_dtype = "float32"

    def __init__(
        self,
        checkpoint: Any,
        next_of: Callable[[Ids], int],
        *,
        threads: int,
        activations: str,
        margin: float = 8.0,
        noise: float = 0.0,
    ) -> None:
        self.config = checkpoint.config
        self.max_positions = checkpoint.config.max_position_embeddings
        self.threads, self.activations = threads, activations
        self.next_of = next_of
        self.margin, self.noise = margin, noise

    def new_cache(self) -> Any:
        return _History()

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        made = []
        for span in spans:
            history: Any = span.cache
            for i, token_id in enumerate(span.token_ids.tolist()):
                history.ids.append(token_id)
                if rows == "all" or i == len(span.token_ids) - 1:
                    made.append(self.row(tuple(history.ids)))
        logits = np.stack(made)
        if tap is not no_tap:
            tap("final_norm", np.ones((1, 64), dtype=np.float32))
            logits += np.random.default_rng(0).normal(0.0, self.noise, logits.shape).astype(np.float32)
        return logits

    def row(self, history: Ids) -> np.ndarray:
        """float32 [vocab_size]: the scripted token first, and a second one for the margin."""
        row = np.zeros(self.config.vocab_size, dtype=np.float32)
        row[self.second(history)] = 20.0
        row[self.next_of(history)] = 20.0 + self.margin
        return row

    def second(self, history: Ids) -> int:
        """What is almost chosen: never what is."""
        return 1 if self.next_of(history) != 1 else 2
