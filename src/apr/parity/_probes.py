"""The questions that both sides are asked, by prompt regime. Each regime is a claim of its own and is reported alone.

Written for this project, so that no model has been trained on the answers; several scripts, digits, code and prose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from apr.errors import UsageError

if TYPE_CHECKING:
    from apr.engines._subject import Subject

Regime = Literal["raw", "chat", "multi-turn", "pre-formatted", "long"]
REGIMES: tuple[Regime, ...] = ("raw", "chat", "multi-turn", "pre-formatted", "long")


@dataclass(frozen=True, slots=True)
class Probe:
    """One question.

    text:      of a raw, long or pre-formatted prompt; None where `messages` says it
    messages:  of a conversation; a pre-formatted prompt is this conversation as the reference's template renders it
    """

    id: str
    regime: Regime
    text: str | None = None
    messages: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A probe as one subject sees it: the text that was tokenised, and the ids that came of it."""

    text: str
    token_ids: tuple[int, ...]


def _user(text: str) -> tuple[Mapping[str, Any], ...]:
    return ({"role": "user", "content": text},)


_LONG = (
    "The harbour master kept three books. In the first he wrote the ships: name, master, tonnage, cargo, and the hour at "
    "which each one passed the outer mark. In the second he wrote the weather, because the insurers in the capital asked "
    "for it every spring and paid 40 crowns for a fair copy. The third book had no title. Its entries were short, and most "
    "of them were about sounds: a chain that ran out at night when no ship was expected, a bell to the north-west, on "
    "14 March and again on 2 April, where the chart shows 31 fathoms and nothing to hang a bell on.\n\n"
    "When he retired, the first two books went to the archive. The third was found behind the stove. It says, on its last "
    "page: \u201cI have measured the interval between the strokes with Hansen's watch. It is 7.5 seconds in the evening and "
    "7.5 seconds in the morning, in fog and in frost. Nothing that the sea moves keeps time like that.\u201d Below, in another "
    "ink: \u201cToday it was 7.4.\u201d\n\n"
    "The archivist copied the entries into a table. She wrote\n\n"
    "| date | wind | interval (s) |\n| --- | --- | ---: |\n| 14 March | NW 4 | 7.5 |\n| 2 April | calm | 7.5 |\n"
    "| 19 May | S 6 | 7.5 |\n| 30 June | W 2 | 7.4 |\n\n"
    "and then she did what nobody before her had done: she asked what else in the town took seven and a half seconds. It "
    "was not the lighthouse, which turned in ten. It was not the pump of the dry dock. The answer was in the first book, "
    "between two colliers, in the harbour master's own hand, and it was so plain that she laughed aloud in the reading "
    "room. The ferry"
)

PROBES: tuple[Probe, ...] = (
    Probe("code", "raw", "def fib(n):\n"),
    Probe("fact", "raw", "Water boils at 100 degrees Celsius, and it freezes at"),
    Probe("list", "raw", "Monday, Tuesday, Wednesday,"),
    Probe("sum", "chat", messages=_user("What is 2+2?")),
    Probe("write", "chat", messages=_user("Write a Python function that reverses a list. Answer with the code only.")),
    Probe("script", "chat", messages=_user("Übersetze ins Englische: «Guten Morgen, 東京!» 🙂")),
    Probe(
        "memory",
        "multi-turn",
        messages=(
            {"role": "user", "content": "My boat is called Annelise. Remember that."},
            {"role": "assistant", "content": "I will remember that your boat is called Annelise."},
            {"role": "user", "content": "What is my boat called?"},
        ),
    ),
    Probe("sum", "pre-formatted", messages=_user("What is 2+2?")),
    Probe("harbour", "long", _LONG),
)


def of_regime(regime: Regime) -> list[Probe]:
    """The probes of one regime."""
    return [probe for probe in PROBES if probe.regime == regime]


def of_texts(texts: Sequence[str], regime: Regime) -> tuple[Probe, ...]:
    """Texts of somebody's own as probes. Raises UsageError for a regime that one text does not make."""
    if regime not in ("raw", "chat"):
        raise UsageError(f"prompts of your own are asked raw or as chat, not under the regime {regime!r}")
    return tuple(
        Probe(f"prompt {i}", regime, text if regime == "raw" else None, () if regime == "raw" else _user(text))
        for i, text in enumerate(texts, start=1)
    )


def prompt(subject: Subject, probe: Probe, *, reference: Subject) -> Prompt | None:
    """A probe as a subject's own engine reads it: its template, its tokenizer. None if it has no template for it.

    reference:  whose rendering a pre-formatted prompt is; the subject tokenises that text
    """
    if probe.regime == "pre-formatted":
        rendered = reference.voice.render(probe.messages)
        return None if rendered is None else Prompt(rendered, tuple(subject.voice.encode_rendered(rendered)))
    if probe.text is not None:
        return Prompt(probe.text, tuple(subject.voice.encode(probe.text)))
    text = subject.voice.render(probe.messages)
    return None if text is None else Prompt(text, tuple(subject.voice.encode_rendered(text)))


def prompts(reference: Subject, probes: Sequence[Probe] = PROBES) -> list[tuple[Probe, Prompt]]:
    """The probes as the reference reads them, those left out that it has no template for."""
    found = ((probe, prompt(reference, probe, reference=reference)) for probe in probes)
    return [(probe, ready) for probe, ready in found if ready is not None]
