"""The chat template renders, safely."""

from __future__ import annotations

from collections.abc import Iterator

from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate
from apr.tokenizer.chat_template import ChatTemplate, suspicious

_USER = {"role": "user", "content": "Hello"}
_ANSWER = {"role": "assistant", "content": "Hi."}
_CONVERSATIONS = {
    "one turn": [_USER],
    "three turns": [_USER, _ANSWER, {"role": "user", "content": "Bye"}],
}


@gate(
    severity="P0",
    profiles=("file",),
    rationale="A template that fails or drops the message makes a good model answer nonsense; a hostile one attacks whoever loads it.",
    source="transformers apply_chat_template; CVE-2024-34359 for what a template can do",
)
def check(judged: Judged) -> Iterator[Finding]:
    """One and three turns render within the limits and hold the user's words; nothing reaches for Python's inside."""
    spec = judged.tokenizer_spec
    if spec.chat_template is None:
        yield Finding("skip", "none", "the model carries no chat template")
        return
    for sentence in suspicious(spec.chat_template):
        yield Finding("fail", "suspicious", f"the template {sentence}")
    ids = {"bos_token": spec.bos_token_id, "eos_token": spec.eos_token_id}
    variables = {name: spec.tokens[token_id] for name, token_id in ids.items() if token_id is not None}
    with ChatTemplate(spec.chat_template, origin=str(judged.path), variables=variables) as template:
        for name, messages in _CONVERSATIONS.items():
            text = template.render(messages).text
            missing = [m["content"] for m in messages if m["content"] not in text]
            if missing:
                yield Finding("fail", "message-lost", f"{name}: the prompt does not hold {missing[0]!r}")
            ending = template.render(messages, add_generation_prompt=False).text
            if text == ending and not _answer_follows(template, messages, text):
                message = (
                    f"{name}: asking for the assistant's turn changes nothing, and an answer would start elsewhere"
                )
                yield Finding("undecided", "no-generation-prompt", message)
        yield Finding("pass", "renders", f"{len(_CONVERSATIONS)} conversations rendered")


def _answer_follows(template: ChatTemplate, messages: list[dict[str, str]], prompt: str) -> bool:
    """Whether the template puts an answer right behind this prompt, as Mistral's does: then nothing needs to be added."""
    answered = template.render([*messages, _ANSWER], add_generation_prompt=False).text
    return answered.startswith(prompt) and answered[len(prompt) :].lstrip().startswith(_ANSWER["content"])
