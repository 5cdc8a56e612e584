"""What a user writes cannot become a control token."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from apr.engines import _prompt
from apr.errors import TemplateError, TokenizerError
from apr.qa._judged import Judged
from apr.qa.gate import Coverage, Finding, gate
from apr.tokenizer.spec import TokenType

_BATCH = 16
_MOST_TOKENS = {"file": 256, "smoke": 256}  # a vocabulary may hold thousands; a release looks at all of them
_PROBE = "a plain word"


@dataclass(frozen=True, slots=True)
class _Door:
    """A way in for a user's text.

    prompt:   ids of the prompt that holds a text
    control:  the protected ids of a prompt whose text spells none
    """

    name: str
    prompt: Callable[[str], list[int]]
    control: list[int]


@gate(
    severity="P0",
    profiles=("file", "smoke", "release"),
    rationale="Whoever can write <|im_end|> into a message can end his turn and speak as the system.",
    source="apr run's rule: control tokens in user text are text, unless --special; ship-two 11.1",
)
def check(judged: Judged) -> Iterator[Finding]:
    """Every control token, spelled by a user alone, in words and in halves, through the prompt function of `apr run`."""
    tokenizer = judged.model.tokenizer
    try:
        written, others = _protected(judged)
    except TemplateError as exc:
        yield Finding("undecided", "template-error", f"the template renders no prompt that could be forged: {exc}")
        return
    limit = _MOST_TOKENS.get(judged.profile, len(written) + len(others))
    spelled = [*written, *others][:limit]
    if not spelled:
        yield Finding("skip", "none", "the vocabulary has no control tokens")
        return
    ids = {**written, **others}
    n_prompts = n_refused = 0
    forged: set[str] = set()
    for door in _doors(judged, set(ids.values())):
        halves = _halves(written) if door.name in ("prompt", "system") else ()
        for text in [*_alone(written), *halves, *_batches(spelled)]:
            for tried, outcome in _tried(door, text, spelled, set(ids.values())):
                n_prompts += 1
                n_refused += outcome is None
                if outcome and tokenizer.token(outcome[0]) not in forged:
                    token = tokenizer.token(outcome[0])
                    forged.add(token)
                    message = f"{door.name}: {tried[:60]!r}, written by a user, becomes the control token {token!r}"
                    yield Finding(
                        "fail", "forged", message, {"door": door.name, "text": tried[:200], "token_id": outcome[0]}
                    )
    n_all = len(written) + len(others)
    message = (
        f"{len(spelled)} control tokens spelled out in {n_prompts} prompts: "
        f"{n_refused} prompts were refused, in the others they stayed text"
    )
    measure = {"n_tokens": len(spelled), "n_prompts": n_prompts, "n_refused": n_refused}
    if not forged:
        coverage = Coverage(len(spelled), n_all, "control tokens")
        yield Finding("pass", "stays-text", message, measure=measure, coverage=coverage)


def _protected(judged: Judged) -> tuple[dict[str, int], dict[str, int]]:
    """Tokens that no text may become: those that the template writes, whatever their type, and the other control tokens."""
    spec, tokenizer, template = judged.tokenizer_spec, judged.model.tokenizer, judged.model.template
    control = {text: i for text, i in tokenizer.control_tokens.items() if i != spec.unk_token_id and text.strip()}
    written: dict[str, int] = {}
    if template is not None:
        for token_id in _prompt.of_messages([{"role": "user", "content": _PROBE}], tokenizer, template).token_ids:
            is_marker = spec.token_types[token_id] in (TokenType.CONTROL, TokenType.USER_DEFINED)
            if is_marker and (text := tokenizer.token(token_id)).strip():
                written[text] = token_id
    ends = {
        tokenizer.token(i): i
        for i in sorted(judged.model.stop_token_ids)
        if spec.token_types[i] == TokenType.USER_DEFINED
    }
    return written, {text: i for text, i in (control | ends).items() if text not in written}


def _doors(judged: Judged, protected: set[int]) -> Iterator[_Door]:
    """Prompt, conversation, system message, and text that is continued raw; a door that the template has not is left out."""
    tokenizer, template = judged.model.tokenizer, judged.model.template

    def of_text(text: str, regime: _prompt.Regime) -> list[int]:
        return list(_prompt.of_text(text, tokenizer, template, regime=regime).token_ids)

    def of_talk(*turns: tuple[str, str]) -> list[int]:
        messages: list[Mapping[str, str]] = [{"role": role, "content": content} for role, content in turns]
        return list(_prompt.of_messages(messages, tokenizer, template).token_ids)

    ways: dict[str, Callable[[str], list[int]]] = {"raw": lambda text: of_text(text, "raw")}
    if template is not None:
        ways |= {
            "prompt": lambda text: of_text(text, "chat"),
            "history": lambda text: of_talk(("user", text), ("assistant", _PROBE), ("user", _PROBE)),
            "system": lambda text: of_talk(("system", text), ("user", _PROBE)),
        }
    for name, prompt in ways.items():
        try:
            yield _Door(name, prompt, _protected_in(prompt(_PROBE), protected))
        except TemplateError:  # no system role, say: nobody comes in that way
            continue


def _alone(written: Mapping[str, int]) -> Iterator[str]:
    """What the template itself writes: by itself, doubled, at either end of a text and of a line."""
    yield string.printable  # no character of them may be a token's code
    for token in written:
        yield from (token, token * 2, f"{token}x\n{token}\nx{token}")


def _halves(written: Mapping[str, int]) -> Iterator[str]:
    """What the template writes, cut in two, each half where the template's own text may complete it."""
    for token in written:
        yield from (f"{token[at:]}x{token[:at]}" for at in range(1, len(token)))


def _batches(spelled: list[str]) -> Iterator[str]:
    for start in range(0, len(spelled), _BATCH):
        yield " ".join(f"a{token}b {token}" for token in spelled[start : start + _BATCH])


def _tried(door: _Door, text: str, spelled: list[str], protected: set[int]) -> Iterator[tuple[str, list[int] | None]]:
    """The text and the ids that it forges; None if it is refused. Of a batch that is not taken as text, each token by itself."""
    outcome = _forged(door, text, protected)
    parts = [token for token in spelled if token in text]
    if outcome == [] or len(parts) < 2:
        yield text, outcome
        return
    for token in parts:
        yield f"a{token}b", _forged(door, f"a{token}b", protected)


def _forged(door: _Door, text: str, protected: set[int]) -> list[int] | None:
    """Protected ids of the prompt that the template did not write; None for a text that is refused."""
    try:
        found = _protected_in(door.prompt(text), protected)
    except (TemplateError, TokenizerError):
        return None
    if found == door.control:
        return []
    rest = list(found)
    for token_id in door.control:
        if token_id in rest:
            rest.remove(token_id)
    return rest or found or [next(iter(door.control))]


def _protected_in(token_ids: list[int], protected: set[int]) -> list[int]:
    return [token_id for token_id in token_ids if token_id in protected]
