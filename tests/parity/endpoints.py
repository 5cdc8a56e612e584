"""An endpoint without a network: a subject of ours behind the interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from apr.engines._base import Answer
from apr.engines._language_model import Run
from apr.engines._subject import Subject

Render = Callable[[Sequence[Mapping[str, Any]]], str]


def endpoint(server: Subject, *, n_top: int = 5, render: Render | None = None) -> Subject:
    """A subject behind an endpoint that gives so many log-probabilities a step, and may have a template of its own."""
    made = Subject("openai://localhost/tiny", "openai", threads=1)
    vars(made)["endpoint"] = Behind(server, n_top, render)
    return made


class Behind:
    """The endpoint. completed, chatted: what was asked."""

    engine = "openai"
    engine_version = "none"
    model = "tiny"

    def __init__(self, server: Subject, n_top: int, render: Render | None) -> None:
        self.server = server
        self.n_top = n_top
        self.render = render
        self.completed: list[str] = []
        self.chatted: list[Any] = []

    def complete(self, prompt: str, *, max_tokens: int, seed: int = 0) -> Answer:
        """Continue a text; control tokens in it count, as they do behind a real completion endpoint."""
        del seed
        self.completed.append(prompt)
        return self._answer(
            self.server.language_model.run(prompt, regime="raw", control="token", max_tokens=max_tokens)
        )

    def chat(self, messages: Sequence[Mapping[str, Any]], *, max_tokens: int, seed: int = 0) -> Answer:
        """Answer a conversation."""
        self.chatted.append(messages)
        if self.render is not None:
            text = self.render(messages)
            return self._answer(self.server.language_model.run(text, regime="raw", max_tokens=max_tokens))
        del seed
        return self._answer(self.server.language_model.run(list(messages), max_tokens=max_tokens))

    def close(self) -> None:
        """Nothing to hang up."""

    def _answer(self, run: Run) -> Answer:
        for _ in run:
            pass
        steps = [step for step in run.steps if step.finish != "eos"]
        decode = self.server.tokenizer.decode
        return Answer(
            text=decode([step.token_id for step in steps]),
            tokens=tuple(decode([step.token_id]) for step in steps),
            token_ids=tuple(step.token_id for step in steps),
            logprobs=tuple(step.logprob for step in steps) if self.n_top else (),
            top=tuple(tuple((decode([i]), p) for i, p in step.top[: self.n_top]) for step in steps)
            if self.n_top
            else (),
            finish_reason="stop",
        )
