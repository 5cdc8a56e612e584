"""A model's chat template: messages to prompt text, byte-equal to transformers' `apply_chat_template`.

A template is a program from a stranger's file. It is rendered by `_template_child.py`, in a process of its own with
limits on memory, processor time and files; the parent adds a wall clock and measures what comes back. What the
template is given is plain JSON, without the keys whose value is None, as transformers does.

`Rendered.literal` says which control tokens of the text come from message content: the tokenizer encodes those as
text. They are followed by marks (`_template_marks.py`); the text itself is always the rendering without marks.
- If the marks change the rendering, the template inspects that content (it splits at `</think>`, say). The marks that do so
  are left out, each found by itself.
- A control token left without its mark is refused with TemplateError if it can still be in the text, for then nobody
  can say whose it is. The model's own turns are the exception: a template that parses them wrote the token itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType, TracebackType
from typing import Any, Self

from apr.errors import TemplateError
from apr.tokenizer._template_marks import ControlTokens, Marks, Place, Span, overlapping
from apr.tokenizer._template_process import OUTPUT_BYTES, WALL_S, ProcessLost, RenderProcess

MAX_SOURCE_BYTES = 2**20
MAX_INPUT_BYTES = 8 * 2**20
MAX_DEPTH = 64
CACHED_RENDERINGS = 32
CACHED_CHARS = 2**18  # a longer text is rendered again: it would be the cache's whole memory
MAX_PLACES = 64  # marks that may be tried one by one
_MESSAGE_CHARS = 700

_NO_VARIABLES: Mapping[str, Any] = MappingProxyType({})
_REASONING = ("reasoning_content", "thinking", "reasoning")  # names for the same thing, in transformers' order
_PROBE = {"role": "user", "content": "hello"}
_PROBES = ([_PROBE], [{"role": "system", "content": "hello"}, _PROBE])

_HINTS = {
    "output": (f"the text passed the limit of {OUTPUT_BYTES // 2**20} MiB", "shorten the messages"),
    "memory": (
        "it needs more than the limit of 512 MiB of memory",
        "do not use this template, or shorten the messages",
    ),
    "recursion": ("it nests or calls itself too deeply", "do not use this template"),
    "syntax": ("it is not valid Jinja", "use a copy of the model with a repaired template, or --raw"),
    "security": ("it reaches for what the sandbox forbids", "do not trust this file; `apr inspect` shows the template"),
    "surrogate": ("the text holds half a surrogate pair, which is not Unicode text", "use another copy of the model"),
    "failed": ("it fails on these messages", "check the roles and fields of the messages, or use --raw"),
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt.

    text:     what the model reads
    literal:  character spans of `text`, in order, in which control tokens come from message content and must be
              encoded as text
    """

    text: str
    literal: tuple[Span, ...]


class ChatTemplate:
    """One template and the process that renders it, which is started by `start`, or by the first rendering.

    source:          Jinja text, as the model's file has it
    origin:          where it is from, for messages: "tokenizer.chat_template of model.gguf"
    control_tokens:  texts that act as control tokens; none of them does when it comes from a message
    variables:       what every rendering is given: bos_token, eos_token, pad_token, unk_token

    Raises TemplateError for a source over 1 MiB or one that is not Unicode text. Everything else shows in `render`.
    """

    def __init__(
        self,
        source: str,
        *,
        origin: str,
        control_tokens: Iterable[str] = (),
        variables: Mapping[str, Any] = _NO_VARIABLES,
    ) -> None:
        self.origin = origin
        try:
            encoded = source.encode()
        except UnicodeEncodeError as exc:
            raise self._error(f"character {exc.start} is half a surrogate pair, not text", "use another copy") from exc
        if len(encoded) > MAX_SOURCE_BYTES:
            raise self._error(f"it has {len(encoded)} bytes, at most {MAX_SOURCE_BYTES} are read", "use another copy")
        self.source = source
        self.sha256 = hashlib.sha256(encoded).hexdigest()
        self.variables = {name: self._plain(value, name, 0) for name, value in variables.items()}
        self._tokens = ControlTokens(control_tokens)
        self._process = RenderProcess()
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, Rendered] = OrderedDict()
        self._written: frozenset[str] | None = None

    def start(self) -> None:
        """Start the rendering process without waiting for it, so that the first rendering finds it ready."""
        self._process.start()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> Rendered:
        """The text of a conversation.

        messages:   "role", "content" and what else the template reads; JSON types only
        tools:      JSON schemas, as transformers takes them
        variables:  what the template reads besides (enable_thinking, documents, ...). `strftime_now`, a datetime,
                    sets the clock instead (default: local time).
        Raises      TemplateError: the template's own refusal, a fault in it, or a limit it ran into
        """
        now = variables.pop("strftime_now", None)
        if now is not None and not isinstance(now, datetime):
            raise self._error(f"strftime_now is a {type(now).__name__}", "give a datetime")
        given = {
            **{name: self._plain(value, name, 0) for name, value in variables.items()},
            "messages": self._conversation(messages),
            "tools": None if tools is None else self._plain(list(tools), "tools", 0),
            "documents": self._plain(variables.get("documents"), "documents", 0),
            "add_generation_prompt": add_generation_prompt,
        }
        as_json = json.dumps(given, ensure_ascii=False)
        if len(as_json.encode()) > MAX_INPUT_BYTES:
            raise self._error(f"the messages have over {MAX_INPUT_BYTES // 2**20} MiB", "shorten the conversation")
        key = hashlib.sha256(f"{now}{as_json}".encode()).hexdigest()
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        rendered = self._rendered(given, as_json, now or datetime.now())
        if len(rendered.text) <= CACHED_CHARS and (now is not None or "strftime_now" not in self.source):
            with self._lock:
                self._cache[key] = rendered
                while len(self._cache) > CACHED_RENDERINGS:
                    self._cache.popitem(last=False)
        return rendered

    def control_tokens_rendered(self) -> frozenset[str]:
        """The control tokens that the template itself writes around a user's word, with and without a system message.

        A prompt that holds one of them is already formatted. Raises TemplateError if no conversation can be rendered.
        """
        if self._written is None:
            found: set[str] = set()
            refusals: list[TemplateError] = []
            for messages in _PROBES:
                try:
                    text = self.render(messages).text
                except TemplateError as exc:  # a template without a system role refuses one of the two
                    refusals.append(exc)
                    continue
                found |= {text[start:end] for start, end in self._tokens.find(text)}
            if len(refusals) == len(_PROBES):
                raise refusals[0]
            self._written = frozenset(found)
        return self._written

    def close(self) -> None:
        """End the rendering process; a later `render` starts another."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rendered(self, given: dict[str, Any], as_json: str, now: datetime) -> Rendered:
        answer = self._answer(given, now)
        if "text" not in answer:
            raise self._refusal(answer)
        text = answer["text"]
        try:
            marks = Marks(as_json, self.source, text)
        except ValueError as exc:
            raise self._error(f"the marks cannot be placed: {exc}", "remove private-use characters") from exc
        marked = {name: value for name, value in given.items() if not name.endswith("_token")}
        _, places = marks.put(marked, self._tokens, wanted=lambda index: False)
        if not places:
            return Rendered(text, ())

        def spans_with(wanted: Callable[[int], bool]) -> list[Span] | None:
            request, _ = marks.put(marked, self._tokens, wanted=wanted)
            tried, spans = marks.take_out(self._answer({**given, **request}, now).get("text", ""))
            return spans if tried == text else None

        spans = spans_with(lambda index: True)
        if spans is None:
            spans = self._spans_one_by_one(text, places, spans_with)
        return Rendered(text, overlapping(self._tokens.find(text), spans))

    def _spans_one_by_one(
        self, text: str, places: list[Place], spans_with: Callable[[Callable[[int], bool]], list[Span] | None]
    ) -> list[Span]:
        """Where content is in `text`, when the template notices some of the marks."""
        quiet: set[int] = set()
        if len(places) <= MAX_PLACES:
            deadline = time.monotonic() + WALL_S
            for index in range(len(places)):
                if time.monotonic() > deadline:
                    break
                if spans_with(lambda each, index=index: each == index) is not None:  # type: ignore[misc]
                    quiet.add(index)
        spans = spans_with(lambda index: index in quiet)
        if spans is None:
            spans, quiet = [], set()
        lost = {p.text for i, p in enumerate(places) if i not in quiet and p.whole and p.role != "assistant"}
        found = self._tokens.find(text)
        theirs = set(overlapping(found, spans))
        unclear = {text[start:end] for start, end in found if (start, end) not in theirs} & lost
        if unclear:
            raise self._error(
                f"it inspects the control token {min(unclear)!r} in a message and writes it too, so text and control "
                "cannot be told apart",
                "remove the token from the message, or allow it as a control token with --special",
            )
        return spans

    def _answer(self, context: dict[str, Any], now: datetime) -> dict[str, str]:
        request = {"source": self.source, "context": {**self.variables, **context}, "now": now.isoformat()}
        try:
            answer = self._process.ask(request)
        except ProcessLost as exc:
            raise self._error(str(exc), "do not use this template, or shorten the messages") from exc
        if answer.get("error") in ("memory", "recursion", "output"):
            raise self._refusal(answer)
        return answer

    def _refusal(self, answer: dict[str, str]) -> TemplateError:
        if answer["error"] == "raised":
            found = f"the template refuses these messages: {answer['message']}"
            return self._error(found, "change the messages, or use --raw")
        found, advice = _HINTS.get(answer["error"], _HINTS["failed"])
        return self._error(f"{found} ({answer['message']})", advice)

    def _error(self, found: str, advice: str) -> TemplateError:
        # a stranger's words go to a terminal: no escapes, no end
        printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in found[:_MESSAGE_CHARS])
        return TemplateError(f"{self.origin}: {printable}; {advice}")

    def _conversation(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        if not messages:
            raise self._error("the conversation is empty, at least one message was expected", "give a message")
        return [self._message(message, f"messages[{i}]") for i, message in enumerate(messages)]

    def _message(self, message: object, where: str) -> dict[str, Any]:
        if not isinstance(message, Mapping):
            raise self._error(f"{where} is a {type(message).__name__}, an object was expected", "give role and content")
        # templates write "None" for a null and cope with a missing key
        plain: dict[str, Any] = self._plain({k: v for k, v in message.items() if v is not None}, where, 0)
        reasoning = next((plain[name] for name in _REASONING if name in plain), None)
        if reasoning is None:
            return plain
        return {"thinking": reasoning, **plain, "reasoning_content": reasoning}

    def _plain(self, value: object, where: str, depth: int) -> Any:
        """A copy in exact JSON types: an object with methods is a way out of any sandbox."""
        if depth > MAX_DEPTH:
            raise self._error(f"{where} is nested deeper than {MAX_DEPTH}", "flatten it")
        match value:
            case None | bool():
                return value
            case str():
                return self._text(value, where)
            case int() if value.bit_length() <= 1024:
                return int(value)
            case float() if math.isfinite(value):
                return float(value)
            case Mapping():
                return {
                    self._key(name, where): self._plain(item, f"{where}.{name}", depth + 1)
                    for name, item in value.items()
                }
            case list() | tuple():
                return [self._plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
        raise self._error(f"{where} is a {type(value).__name__} that JSON does not have", "give plain JSON data")

    def _text(self, value: str, where: str) -> str:
        try:
            return value.encode().decode()  # also turns a subclass into a plain str
        except UnicodeEncodeError as exc:
            raise self._error(
                f"{where}: character {exc.start} is half a surrogate pair, not text", "repair it"
            ) from exc

    def _key(self, name: object, where: str) -> str:
        if not isinstance(name, str):
            raise self._error(f"{where} has a key that is a {type(name).__name__}", "use strings as keys")
        return self._text(name, where)


def suspicious(source: str) -> list[str]:
    """What a static look at a template finds suspicious, one sentence each with its line; nothing is rendered."""
    from apr.tokenizer import _template_audit  # jinja2 is needed in this process only for this

    return _template_audit.suspicious(source)
