"""A chat template with nothing to compare it with: what every template must do, whatever its model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from apr.engines._subject import Subject
from apr.errors import TemplateError
from apr.parity import stop
from apr.parity._batteries import NOW
from apr.parity._link import Finding, LinkResult, different, same
from apr.parity._renderings import is_bare
from apr.tokenizer.chat_template import ChatTemplate
from apr.tokenizer.spec import HIDDEN_TYPES, TokenizerSpec, TokenType

LINK = "template"
_QUESTION, _ANSWER, _MORE = "the question itself", "the answer itself", "one more question"
_ONE = ({"role": "user", "content": _QUESTION},)
_THREE = (*_ONE, {"role": "assistant", "content": _ANSWER}, {"role": "user", "content": _MORE})
_MARKER = re.compile(r"<\|[^|<>\s]+\|>|<[a-z]+_of_[a-z]+>|</?s>|<bos>|<eos>")


def judge(subject: Subject, template: ChatTemplate) -> LinkResult:
    """The link's verdict on one template."""
    measure: dict[str, Any] = {"sha256": template.sha256, "n_conversations": 2}
    try:
        one, three = (_text(template, messages) for messages in (_ONE, _THREE))
        bare_end = _text(template, _ONE, header=False)
    except TemplateError as exc:
        return different(
            LINK, [Finding("template.text", f"the template fails on a plain conversation: {exc}")], measure
        )
    findings = [*_contents(one, three), *_ending(template, one, bare_end), *_doubled(subject.spec, one)]
    findings += _ordinary_markers(subject.spec, three)
    findings += stop.unheard_turn_ends(subject)
    if findings:
        return different(LINK, findings, measure)
    end = stop.turn_end(subject)
    heard = "" if end is None else f", and ends turns with {end[1]}, where generation stops"
    return same(LINK, f"the template renders one and three turns, asks for an answer at the end{heard}", measure)


def _text(template: ChatTemplate, messages: Any, *, header: bool = True) -> str:
    return template.render(messages, add_generation_prompt=header, strftime_now=NOW).text


def _contents(one: str, three: str) -> Iterator[Finding]:
    if is_bare(one, _ONE) and is_bare(three, _THREE):
        yield Finding("template.not_applied", "the prompt is the bare messages: the template adds nothing to them")
        return
    for content, text in ((_QUESTION, one), (_QUESTION, three), (_ANSWER, three), (_MORE, three)):
        if content not in text:
            yield Finding(
                "template.text", f"the prompt does not hold the message {content!r}", {"candidate": text[-200:]}
            )
            return
        if text.count(content) > 1:
            yield Finding("template.double", f"the prompt holds the message {content!r} {text.count(content)} times")
            return


def _ending(template: ChatTemplate, one: str, bare_end: str) -> Iterator[Finding]:
    """An answer is asked for, or would follow right here in any case, as Mistral's do."""
    if one != bare_end:
        return
    answered = _text(template, _THREE[:2], header=False)
    if answered.startswith(one) and answered[len(one) :].lstrip().startswith(_ANSWER):
        return
    sentence = (
        f"asking for an answer adds nothing to the prompt, which ends with {one[-40:]!r}: an answer starts elsewhere"
    )
    yield Finding("template.generation_prompt", sentence, {"text_offset": len(one), "candidate": one[-40:]})


def _doubled(spec: TokenizerSpec, text: str) -> Iterator[Finding]:
    bos = None if spec.bos_token_id is None else spec.tokens[spec.bos_token_id]
    if bos and text.startswith(bos + bos):
        yield Finding(
            "template.double",
            f"the prompt begins with {bos!r} twice",
            {"token_id": spec.bos_token_id, "text_offset": 0},
        )


def _ordinary_markers(spec: TokenizerSpec, text: str) -> Iterator[Finding]:
    """What looks like a control token, is in the vocabulary, and is an ordinary token there.

    A marker that is not in the vocabulary at all is text to some models (`<|user|>` of Zephyr), and no finding.
    """
    markers = dict.fromkeys(_MARKER.findall(text))
    if not markers:
        return
    id_of = {token: i for i, token in enumerate(spec.tokens) if token in markers}
    special = (*HIDDEN_TYPES, TokenType.USER_DEFINED)
    for marker in markers:
        token_id = id_of.get(marker)
        if token_id is not None and spec.token_types[token_id] not in special:
            sentence = f"the template writes {marker!r}, and token {token_id} of that name is an ordinary token, never found in a prompt"
            yield Finding("tokenizer.special", sentence, {"token_id": token_id, "token": marker})
