"""From what a user asked to the exact ids that the model sees, with the template decision said aloud.

A prompt is wrapped in the model's own chat template when it has one; `raw` continues the text as it is; a prompt that
already holds the template's control tokens is sent as it is, and only then are control tokens in it control tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from apr.errors import UsageError
from apr.tokenizer.chat_template import ChatTemplate
from apr.tokenizer.tokenizer import Tokenizer

Regime = Literal["auto", "raw", "chat"]
Decision = Literal["applied", "raw", "pre-formatted"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, ready for a session.

    text:       what was tokenised, template included
    token_ids:  the exact input ids
    decision:   what was done about the template
    reason:     why, in words
    """

    text: str
    token_ids: tuple[int, ...]
    decision: Decision
    reason: str


def of_text(
    text: str,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    *,
    regime: Regime = "auto",
    system: str | None = None,
    control: Literal["text", "token"] = "text",
) -> Prompt:
    """The prompt of one text under a regime.

    system:   a system message; needs the template
    control:  whether control tokens written in the text are text or tokens ("token" is `--special`)
    Raises    UsageError when a template is insisted on and there is none; TemplateError as the template fails.
    """
    if regime == "raw":
        if system is not None:
            raise UsageError("a system message needs the chat template: leave out --raw or --system")
        return _raw(text, tokenizer, control, "raw was asked for")
    if template is None:
        if regime == "chat" or system is not None:
            raise UsageError("the model has no chat template; use --raw, or a model that carries one")
        return _raw(text, tokenizer, control, "the model has no chat template")
    if regime == "auto" and system is None:
        found = first_control_token(text, template.control_tokens_rendered())
        if found is not None:
            ids = tokenizer.with_bos(tokenizer.encode_control(text))
            reason = f"the prompt already holds {found}, which the template writes"
            return Prompt(text, tuple(ids), "pre-formatted", reason)
    messages = [{"role": "system", "content": system}] if system is not None else []
    return of_messages([*messages, {"role": "user", "content": text}], tokenizer, template, control=control)


def of_messages(
    messages: Sequence[Mapping[str, Any]],
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    *,
    control: Literal["text", "token"] = "text",
) -> Prompt:
    """The prompt of a conversation. The template writes the beginning of text itself, where the model wants one."""
    if template is None:
        raise UsageError("the model has no chat template; use `apr run --raw`, or a model that carries one")
    rendered = template.render(messages)
    literal = rendered.literal if control == "text" else ()
    ids = tokenizer.encode_control(rendered.text, literal=literal)
    return Prompt(rendered.text, tuple(ids), "applied", f"the model carries one ({template.origin})")


def first_control_token(text: str, control_tokens: Iterable[str]) -> str | None:
    """The first of the tokens that occurs in `text`; None if none does."""
    found = [(text.find(token), token) for token in control_tokens if token and token in text]
    return min(found)[1] if found else None


def _raw(text: str, tokenizer: Tokenizer, control: Literal["text", "token"], reason: str) -> Prompt:
    ids = tokenizer.encode(text) if control == "text" else tokenizer.encode_control(text)
    return Prompt(text, tuple(tokenizer.with_bos(ids)), "raw", reason)
