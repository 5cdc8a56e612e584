"""The chat template renders, safely."""

from __future__ import annotations

from collections.abc import Iterator

from apr.qa._subject import Subject
from apr.qa.gate import Finding, gate
from apr.tokenizer.chat_template import ChatTemplate, suspicious

_USER = {"role": "user", "content": "Hello"}
_CONVERSATIONS = {
    "one turn": [_USER],
    "three turns": [_USER, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Bye"}],
}


@gate(
    severity="P0",
    profiles=("file",),
    rationale="A template that fails or drops the message makes a good model answer nonsense; a hostile one attacks whoever loads it.",
    source="transformers apply_chat_template; CVE-2024-34359 for what a template can do",
)
def check(subject: Subject) -> Iterator[Finding]:
    """One and three turns render within the limits and hold the user's words; nothing reaches for Python's inside."""
    spec = subject.tokenizer_spec
    if spec.chat_template is None:
        yield Finding("skip", "none", "the model carries no chat template")
        return
    for sentence in suspicious(spec.chat_template):
        yield Finding("fail", "suspicious", f"the template {sentence}")
    ids = {"bos_token": spec.bos_token_id, "eos_token": spec.eos_token_id}
    variables = {name: spec.tokens[token_id] for name, token_id in ids.items() if token_id is not None}
    with ChatTemplate(spec.chat_template, origin=str(subject.path), variables=variables) as template:
        for name, messages in _CONVERSATIONS.items():
            text = template.render(messages).text
            missing = [m["content"] for m in messages if m["content"] not in text]
            if missing:
                yield Finding("fail", "message-lost", f"{name}: the prompt does not hold {missing[0]!r}")
            ending = template.render(messages, add_generation_prompt=False).text
            if text == ending:
                yield Finding(
                    "undecided", "no-generation-prompt", f"{name}: asking for the assistant's turn changes nothing"
                )
        yield Finding("pass", "renders", f"{len(_CONVERSATIONS)} conversations rendered")
