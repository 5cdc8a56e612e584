"""A model behind an OpenAI-compatible interface: llama.cpp's server, vLLM, Ollama, a hosted one. Text in, text out.

    openai://HOST[:PORT][/BASE]/MODEL

    openai://127.0.0.1:8080                               the one model that the server has
    openai://127.0.0.1:11434/smollm2:135m                 http, to this machine or a private network
    openai://api.example.com/meta-llama/Llama-3.2-1B      https, to everywhere else; so is port 443
    openai://openrouter.example/api/v1/org/model          BASE, if it is not /v1, ends at its `v1`

Text in clear goes to private addresses only: loopback and private IP addresses, and names that mean nothing outside
(without a dot, or in .local, .localhost, .internal, .home.arpa). A key in APR_OPENAI_API_KEY is sent over https and to this machine.

Decoding is greedy: temperature 0. What else an endpoint does by its own defaults (Ollama's repetition penalty) cannot be
seen from here, and is part of what is compared.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from apr.engines._base import Answer, Capability
from apr.engines._endpoint_http import JsonClient, Refused
from apr.errors import EngineError, UsageError
from apr.formats._json import shorten
from apr.hub._http import is_loopback

logger = logging.getLogger(__name__)

CAPABILITIES: frozenset[Capability] = frozenset({"text", "top_logprobs"})
SCHEME = "openai"
KEY_VARIABLE = "APR_OPENAI_API_KEY"
N_TOP = 5  # as many alternatives as a run record keeps, and the most that a completion of OpenAI's gives
TIMEOUT_S = 600.0
PAUSES_S = (0.5, 1.0, 2.0, 4.0)
_HTTPS_PORT = 443
_PRIVATE_ENDINGS = (".local", ".localhost", ".internal", ".home.arpa")  # RFC 6762, 6761, 8375; ICANN 2024 for .internal

T = TypeVar("T")
Step = tuple[str, int | None, float, tuple[tuple[str, float], ...]]  # token, id, logprob, alternatives


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint is. base: the URL of its interface; model: as it serves it, empty if the user named none."""

    base: str
    model: str


def parse(address: str) -> Address:
    """Read an address. Raises UsageError for one that is no such address, or that holds a secret."""
    parts = urlsplit(address)
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise UsageError(f"{shorten(address)}: {exc}; expected openai://HOST:PORT/MODEL") from exc
    if parts.scheme != SCHEME or not host:
        raise UsageError(f"{shorten(address)}: expected openai://HOST:PORT/MODEL")
    if "@" in parts.netloc:
        raise UsageError(
            f"an address of {shorten(host)} holds a user or a key, which would be printed and recorded; put the key into {KEY_VARIABLE}"
        )
    if parts.query or parts.fragment:
        raise UsageError(f"{shorten(address)}: `?` and `#` mean nothing here; expected openai://HOST:PORT/MODEL")
    scheme = "http" if _is_private(host) and port != _HTTPS_PORT else "https"
    shown = f"[{host}]" if ":" in host else host
    segments = [part for part in parts.path.split("/") if part]
    end = segments.index("v1") + 1 if "v1" in segments else 0
    path = "/".join(segments[:end]) or "v1"
    model = unquote("/".join(segments[end:]))
    return Address(f"{scheme}://{shown}{f':{port}' if port else ''}/{path}", model)


def connect(address: str, *, timeout_s: float = TIMEOUT_S, pauses_s: Sequence[float] = PAUSES_S) -> OpenAIEndpoint:
    """The endpoint at an address; nothing is asked of it yet, but for the model's name if the address has none.

    timeout_s:  of one request, to the last byte of its answer
    pauses_s:   before each further attempt, where the server is busy or the connection broke
    Raises      UsageError for the address; EngineError if a model must be chosen and cannot be.
    """
    where = parse(address)
    client = JsonClient(where.base, _key_for(where.base), timeout_s, tuple(pauses_s))
    return OpenAIEndpoint(client, where.model or _only_model(client))


class OpenAIEndpoint:
    """A model behind `/completions` and `/chat/completions` (`Endpoint`)."""

    engine = SCHEME

    def __init__(self, client: JsonClient, model: str) -> None:
        self.model = model
        self.engine_version = "unknown"  # until it answers: servers say it with their answers, if at all
        self._client = client
        self._gives_logprobs = True
        self._length_field = "max_tokens"

    def complete(self, prompt: str, *, max_tokens: int, seed: int = 0) -> Answer:
        """Continue a text greedily, without a template. Raises EngineError."""
        choice = self._choice("/completions", {"prompt": prompt}, {"logprobs": N_TOP}, max_tokens, seed)
        return _answer(choice, _get(choice, "text", str, "choices[0]"))

    def chat(self, messages: Sequence[Mapping[str, Any]], *, max_tokens: int, seed: int = 0) -> Answer:
        """Answer a conversation greedily, through the endpoint's own template. Raises EngineError.

        What a server keeps apart from the answer (reasoning, calls of tools) is not part of the text.
        """
        asked = {"messages": [dict(message) for message in messages]}
        wanted = {"logprobs": True, "top_logprobs": N_TOP}
        choice = self._choice("/chat/completions", asked, wanted, max_tokens, seed)
        message = _get(choice, "message", dict, "choices[0]")
        return _answer(choice, "" if message.get("content") is None else _get(message, "content", str, "message"))

    def close(self) -> None:
        """Nothing is held between two requests."""

    def _choice(
        self, route: str, asked: Mapping[str, Any], wanted: Mapping[str, Any], max_tokens: int, seed: int
    ) -> dict[str, Any]:
        """Ask, once more without what the server says it does not know; its one choice."""
        while True:
            body = {"model": self.model, **asked, self._length_field: max_tokens, "temperature": 0, "seed": seed}
            try:
                reply = self._client.post(route, body | dict(wanted) if self._gives_logprobs else body)
                break
            except Refused as exc:
                if not self._gives_way(exc):
                    raise
        fingerprint = reply.get("system_fingerprint")
        if isinstance(fingerprint, str) and fingerprint:
            self.engine_version = fingerprint
        choices = _get(reply, "choices", list, "the answer")
        if len(choices) != 1 or not isinstance(choices[0], dict):
            raise EngineError(
                f"the answer has {len(choices)} choices, expected one object; the server is not compatible"
            )
        made: dict[str, Any] = choices[0]
        return made

    def _gives_way(self, refusal: Refused) -> bool:
        """Whether the complaint is about something that can be left out or said otherwise; from now on it is."""
        if refusal.status not in (400, 422):
            return False
        if "max_completion_tokens" in refusal.complaint and self._length_field == "max_tokens":
            self._length_field = "max_completion_tokens"  # OpenAI's newer models
            return True
        if "logprobs" in refusal.complaint and self._gives_logprobs:
            logger.warning("%s gives no log-probabilities: %s", self.model, refusal.complaint)
            self._gives_logprobs = False
            return True
        return False


def _is_private(host: str) -> bool:
    """Whether an address or a name means something on this machine or its own network only."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_ENDINGS)


def _key_for(base: str) -> str:
    """The key to send to this server; none to where it could be read on the way."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if key and not (key.isascii() and key.isprintable()):
        raise UsageError(f"{KEY_VARIABLE} holds characters that no key has (a line break?); set it to the key alone")
    if key and not base.startswith("https://") and not is_loopback(base):
        logger.warning("the key in %s is not sent to %s: it could be read on the way; use https", KEY_VARIABLE, base)
        return ""
    return key


def _only_model(client: JsonClient) -> str:
    listed = _get(client.get("/models"), "data", list, "the list of models")
    names = [_get(entry, "id", str, "the list of models") for entry in listed if isinstance(entry, dict)]
    if len(names) != 1:
        known = ", ".join(shorten(name) for name in names[:20]) or "none"
        raise EngineError(f"{client.base} serves {len(names)} models, expected one; name one in the address: {known}")
    return names[0]


def _answer(choice: Mapping[str, Any], text: str) -> Answer:
    steps = _steps(choice)
    ids = tuple(token_id for _, token_id, _, _ in steps if token_id is not None)
    if len(ids) < len(steps) or not steps:  # vLLM tells them beside the log-probabilities, if at all
        told = choice.get("token_ids")
        ids = tuple(_is(i, int, "token_ids") for i in told) if isinstance(told, list) else ()
    return Answer(
        text=text,
        tokens=tuple(token for token, _, _, _ in steps),
        token_ids=ids,
        logprobs=tuple(logprob for _, _, logprob, _ in steps),
        top=tuple(top for _, _, _, top in steps) if any(top for _, _, _, top in steps) else (),
        finish_reason=str(choice.get("finish_reason") or ""),
    )


def _steps(choice: Mapping[str, Any]) -> list[Step]:
    """The tokens with their log-probabilities; none if there are none."""
    found = choice.get("logprobs")
    if found is None:
        return []
    found = _is(found, dict, "logprobs")
    if isinstance(found.get("content"), list):  # chat; llama.cpp's server for completions too
        return [_chat_step(_is(entry, dict, f"logprobs.content[{i}]")) for i, entry in enumerate(found["content"])]
    if isinstance(found.get("tokens"), list):
        return _completion_steps(found)
    if all(value is None or value == [] for value in found.values()):
        return []
    raise EngineError(f"logprobs has the fields {shorten(sorted(found))}, expected `content` or `tokens`")


def _chat_step(entry: Mapping[str, Any]) -> Step:
    top = [
        (_get(other, "token", str, "top_logprobs"), _logprob(other.get("logprob"), "top_logprobs"))
        for other in (_is(o, dict, "top_logprobs") for o in entry.get("top_logprobs") or [])
    ]
    token_id = entry.get("id")
    return (
        _get(entry, "token", str, "logprobs.content"),
        None if token_id is None else _is(token_id, int, "id"),
        _logprob(entry.get("logprob"), "logprobs.content"),
        _ordered(top),
    )


def _completion_steps(found: Mapping[str, Any]) -> list[Step]:
    tokens, logprobs = found["tokens"], _get(found, "token_logprobs", list, "logprobs")
    tops = found.get("top_logprobs") or [None] * len(tokens)
    if not len(tokens) == len(logprobs) == len(_is(tops, list, "top_logprobs")):
        raise EngineError(
            f"logprobs has {len(tokens)} tokens, {len(logprobs)} token_logprobs and {len(tops)} top_logprobs; expected as many of each"
        )
    steps: list[Step] = []
    for token, logprob, top in zip(tokens, logprobs, tops, strict=True):
        others = [
            (name, _logprob(value, "top_logprobs")) for name, value in _is(top or {}, dict, "top_logprobs").items()
        ]
        steps.append((_is(token, str, "tokens"), None, _logprob(logprob, "token_logprobs"), _ordered(others)))
    return steps


def _ordered(top: list[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(top, key=lambda entry: -entry[1]))


def _logprob(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value > 1e-3:
        raise EngineError(f"{where} holds {shorten(value)}, expected a log-probability, at most 0")
    return float(value)


def _get(source: Mapping[str, Any], key: str, kind: type[T], where: str) -> T:
    if key not in source:
        raise EngineError(f"{where} has no {key!r}, but {shorten(sorted(source))}; the server is not compatible")
    return _is(source[key], kind, f"{where}: {key}")


def _is(value: Any, kind: type[T], where: str) -> T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise EngineError(f"{where} is {shorten(value)}, expected {kind.__name__}; the server is not compatible")
    return value
