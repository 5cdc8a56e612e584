"""The chat template renders every shape of conversation, safely, and what it writes is what the model was trained on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from apr.engines import _prompt
from apr.errors import TemplateError
from apr.parity import _families, _single_template
from apr.qa import _from_links
from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate
from apr.tokenizer.chat_template import ChatTemplate, suspicious
from apr.tokenizer.tokenizer import Tokenizer

Messages = Sequence[Mapping[str, str]]

_REFUSED = "the template refuses these messages"  # its own raise_exception, see tokenizer/chat_template.py
_INSTRUCT = re.compile(r"(?:^|[^a-z])(?:instruct|chat|it)(?:$|[^a-z])", re.IGNORECASE)
_TWICE = re.compile(r"(<[^<>\s]{1,40}>[^<>]{0,40})\1")
_MARKER = re.compile(r"<\|([^|<>\s]+)\|>")
# what a model that was made for conversations stops at, and no other
_TURN_ENDS = frozenset({"<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<turn|>", "<end_of_utterance>"})
_ROLES = frozenset({"user", "assistant", "system", "tool"})


def _talk(*turns: tuple[str, str]) -> Messages:
    return [{"role": role, "content": content} for role, content in turns]


_QUESTION, _ANSWER, _MORE, _RULE = "the question itself", "the answer itself", "one more question", "the rule itself"
CONVERSATIONS: dict[str, Messages] = {
    "one turn": _talk(("user", _QUESTION)),
    "three turns": _talk(("user", _QUESTION), ("assistant", _ANSWER), ("user", _MORE)),
    "system message": _talk(("system", _RULE), ("user", _QUESTION)),
    "system message and three turns": _talk(
        ("system", _RULE), ("user", _QUESTION), ("assistant", _ANSWER), ("user", _MORE)
    ),
    "seven turns": _talk(
        *((role, f"word {i} of the talk") for i, role in enumerate(("user", "assistant") * 3)), ("user", _MORE)
    ),
    "empty content": _talk(("user", "")),
    "empty answer": _talk(("user", _QUESTION), ("assistant", ""), ("user", _MORE)),
    "several lines": _talk(("user", "first line\n\n  second line\n```python\nx = {'a': 1}\n```\nlast line")),
    "braces": _talk(("user", "{{ bos_token }} {% raw %} ${x} \\n 'quoted' \"twice\" & <b>")),
    "scripts": _talk(("user", "\u00dcber \u6771\u4eac \U0001f642 \u0645\u0631\u062d\u0628\u0627")),
}


@gate(
    severity="P0",
    profiles=("file", "smoke", "release"),
    rationale="A template that fails or drops the message makes a good model answer nonsense; a hostile one attacks whoever loads it.",
    source="transformers apply_chat_template; CVE-2024-34359 for what a template can do",
)
def check(judged: Judged) -> Iterator[Finding]:
    """Every shape renders and holds its words; control tokens are single ids; an answer is asked for; BOS stands once."""
    spec = judged.tokenizer_spec
    if spec.chat_template is None:
        yield _without(judged)
        return
    for sentence in suspicious(spec.chat_template):
        yield Finding("fail", "suspicious", f"the template {sentence}")
    template = judged.model.template
    assert template is not None
    n_refused = 0
    reported: set[str] = set()
    for name, messages in CONVERSATIONS.items():
        for finding in _shape(judged, template, name, messages):
            n_refused += finding.code == "no-system-role"
            if finding.code not in reported:  # one defect shows in many shapes
                reported.add(finding.code)
                yield finding
        if "template-error" in reported:
            break  # it may have taken the time limit, and would take it again
    if "template-error" not in reported:
        # what ends a turn is the stop gate's; a lost message was told above, by the shape that loses it
        told = ("template.text", "stop.missing")
        yield from _from_links.failures(_single_template.judge(judged.model, template), leave_out=told)
    n = len(CONVERSATIONS)
    rendered = f"{n - n_refused} of {n} shapes of conversation rendered"
    yield Finding(
        "pass", "renders", rendered, measure={"n_shapes": n, "n_refused": n_refused, "sha256": template.sha256}
    )


def _without(judged: Judged) -> Finding:
    named = [judged.file.metadata.get(key) for key in ("general.name", "general.finetune", "name", "model_name")]
    name = next((n for n in (*named, judged.path.name) if isinstance(n, str) and _INSTRUCT.search(n)), None)
    if name is not None:
        return Finding(
            "fail", "missing", f"the model calls itself {name!r} and carries no chat template", {"name": name}
        )
    spec = judged.tokenizer_spec
    end = spec.tokens[spec.eos_token_id] if spec.eos_token_id is not None else ""
    if end in _TURN_ENDS:
        message = f"the model stops at {end}, which ends a turn of a conversation, and carries no chat template"
        return Finding("fail", "missing", message, {"token": end})
    return Finding("skip", "none", "the model carries no chat template")


def _shape(judged: Judged, template: ChatTemplate, name: str, messages: Messages) -> Iterator[Finding]:
    tokenizer = judged.model.tokenizer
    try:
        rendered = template.render(messages)
        prompt = _prompt.of_messages(messages, tokenizer, template)
    except TemplateError as exc:
        if _REFUSED in str(exc) and messages[0]["role"] == "system":
            yield Finding("pass", "no-system-role", f"{name}: the template refuses a system message, as some do")
        else:
            yield Finding("fail", "template-error", f"{name}: {exc}", {"shape": name})
        return
    text = rendered.text
    at = 0
    for message in messages:
        found = text.find(message["content"], 0 if message["role"] == "system" else at)
        if found < 0:
            message_ = f"{name}: the prompt does not hold {message['content']!r} in its place"
            yield Finding("fail", "message-lost", message_, {"shape": name, "role": message["role"]})
            return
        if message["role"] != "system":
            at = found + len(message["content"])
    yield from _tokens(tokenizer, name, text, list(prompt.token_ids))
    yield from _unknown_markers(tokenizer, name, text, messages)
    yield from _begins(judged, name, text, messages, list(prompt.token_ids))


def _tokens(tokenizer: Tokenizer, name: str, text: str, ids: list[int]) -> Iterator[Finding]:
    """The ids of a prompt against its text: each control token one id, BOS once, nothing lost between."""
    control = tokenizer.control_tokens
    pattern = "|".join(map(re.escape, sorted(filter(None, control), key=len, reverse=True)))
    written = [control[token] for token in re.findall(pattern, text)] if pattern else []
    hidden = set(control.values()) - {tokenizer.spec.unk_token_id}
    found = [token_id for token_id in ids if token_id in hidden]
    if found != [token_id for token_id in written if token_id in hidden]:
        message = (
            f"{name}: the template writes {len(written)} control tokens and the prompt's ids hold {len(found)} of them: "
            "a control token became text, or text one"
        )
        yield Finding("fail", "control-split", message, {"shape": name})
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        yield Finding(
            "fail", "double-bos", f"{name}: the prompt begins with {tokenizer.token(bos)!r} twice", {"shape": name}
        )
    back = tokenizer.decode(ids)
    # a SentencePiece tokenizer puts a blank behind every control token
    if (
        tokenizer.spec.normalization == "none"
        and tokenizer.spec.unk_token_id not in ids
        and _dense(back) != _dense(text)
    ):
        yield Finding("fail", "text-lost", f"{name}: the prompt's ids decode to {back[:80]!r}", {"shape": name})


def _begins(judged: Judged, name: str, text: str, messages: Messages, token_ids: list[int]) -> Iterator[Finding]:
    """A header that stands twice in a row, and a beginning of text that the vocabulary's published models all have."""
    spec, config = judged.tokenizer_spec, judged.checkpoint.config
    twice = _TWICE.search(text)
    is_marker = twice is not None and any(token in twice[1] for token in judged.model.tokenizer.control_tokens if token)
    if twice is not None and is_marker and not any(twice[1] in message["content"] for message in messages):
        yield Finding("fail", "double", f"{name}: the prompt holds {twice[1]!r} twice in a row", {"shape": name})
    known = _families.known_tokenizer(spec, vocab_size=config.vocab_size)
    if known is not None and known.add_bos and spec.bos_token_id is not None and token_ids[:1] != [spec.bos_token_id]:
        message = (
            f"{name}: the prompt begins without {spec.tokens[spec.bos_token_id]!r}, with which {known.name} was trained"
        )
        yield Finding("fail", "no-bos", message, {"shape": name, "token_id": spec.bos_token_id})


def _dense(text: str) -> str:
    return "".join(text.replace("▁", " ").split())


def _unknown_markers(tokenizer: Tokenizer, name: str, text: str, messages: Messages) -> Iterator[Finding]:
    """A marker that is no token, beside markers of its spelling that are: plain text to a model that knows neither.

    Markers named after a role (`<|user|>` of Zephyr) are plain text in some models, on purpose.
    """
    spoken = "".join(message["content"] for message in messages)
    markers = {m[0]: m[1] for m in _MARKER.finditer(text) if m[0] not in spoken}
    known = {marker for marker in markers if marker in tokenizer.control_tokens}
    tokens = set(tokenizer.spec.tokens) if known != set(markers) else set()
    for marker, inner in markers.items():
        if known and marker not in tokens and marker not in known and inner not in _ROLES:
            message = f"{name}: the template writes {marker!r}, which is no token, beside {min(known)!r}, which is one"
            yield Finding("fail", "unknown-marker", message, {"shape": name, "token": marker})
