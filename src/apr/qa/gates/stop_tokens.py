"""The ids that end a turn are those that the template's turn ends with, and no ordinary token ends one."""

from __future__ import annotations

from collections.abc import Iterator

from apr.errors import TemplateError
from apr.parity import stop
from apr.qa import _from_links
from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate
from apr.tokenizer.spec import TokenType


@gate(
    severity="P0",
    profiles=("file", "smoke", "release"),
    rationale="A model that does not stop takes the user's next turn too; one that stops at a newline answers in half sentences.",
    source="the rule of tokenizer/stop.py; ship-two 11.3, stop set",
)
def check(judged: Judged) -> Iterator[Finding]:
    """Some token stops generation, it is special, and it is the one that the template writes behind an answer."""
    model = judged.model
    result = stop.examine(model)
    if result.verdict == "cannot_tell":
        _ = judged.tokenizer_spec  # raises what keeps it from being read
    yield from _from_links.failures(result)
    end = stop.turn_end(model)
    try:
        yield from _begins_turn(judged, end)
    except TemplateError as exc:
        yield Finding("undecided", "template-error", f"the template renders nothing that could end: {exc}")
        return
    if model.template is None:
        yield Finding("pass", "stops", f"{result.sentence}; there is no template that could say where a turn ends")
    elif end is None:
        message = f"{result.sentence}; the template writes no control token behind an answer"
        ends_without = "the model has to end it by a token of its own"
        yield Finding("pass", "stops", f"{message}: {ends_without}")
    else:
        measure = {"stop_token_ids": sorted(model.stop_token_ids), "turn_end": list(end)}
        yield Finding("pass", "stops", f"{result.sentence}; the template ends a turn with {end[1]}", measure=measure)


def _begins_turn(judged: Judged, end: tuple[int, str] | None) -> Iterator[Finding]:
    """A stop id that the template writes in front of every turn, and not behind it: answers would end as they begin."""
    model = judged.model
    spec = judged.tokenizer_spec
    if model.template is None:
        return
    header = _generation_prompt(judged)
    for token_id in sorted(model.stop_token_ids):
        text = spec.tokens[token_id]
        is_special = spec.token_types[token_id] != TokenType.NORMAL
        if is_special and text and text in header and (end is None or end[0] != token_id):
            message = f"generation stops at {text!r} (token {token_id}), with which the template begins an answer"
            yield Finding("fail", "extra", message, {"token_id": token_id, "token": text})


def _generation_prompt(judged: Judged) -> str:
    """What the template adds when it asks for an answer."""
    template = judged.model.template
    assert template is not None
    messages = [{"role": "user", "content": "a question"}]
    closed = template.render(messages, add_generation_prompt=False).text
    opened = template.render(messages).text
    return opened[len(closed) :] if opened.startswith(closed) else ""
