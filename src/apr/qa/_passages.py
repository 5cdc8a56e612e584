"""Long texts to be read: prose that hangs together, and a log of any length with notes hidden in it. Written for this project."""

from __future__ import annotations

import random
from dataclasses import dataclass

PROSE = (
    "A lighthouse is a simple machine with a hard task. It must be seen, it must be told from every other light on the same "
    "coast, and it must never stop. The first of these is a matter of height and of glass, the second of clockwork, and the "
    "third of people. For most of its history the third was by far the most expensive, and it is the one that has been "
    "forgotten most completely.\n\n"
    "Consider the glass first. A flame sends its light in all directions, and nearly all of it is wasted on the sky and on the "
    "rocks below. A mirror behind the flame catches half of what would be lost, but polished metal turns dull in salt air, and "
    "a keeper with a cloth can undo in a month what the workshop did in a year. The answer was to bend the light instead of "
    "throwing it back. A single lens large enough for the purpose would weigh several tons and would swallow much of the light "
    "in its own thickness. But the thickness of a lens does nothing; only its surfaces bend the ray. If the lens is cut into "
    "rings, and each ring is moved towards the flame until only its outer curve remains, the result has the power of the large "
    "lens and the weight of a window. Above and below the rings stand prisms, which catch what would pass over and under, and "
    "turn it to the horizon too. With such a lens, the same flame could be seen from twenty miles instead of five.\n\n"
    "The clockwork came next. A light that is always lit looks like a star, like a window, or like another ship. A light that "
    "turns is different: it shows a flash, then darkness, then another flash, and a sailor with a watch can count the seconds "
    "between them and find the number in his book. To turn several tons of glass smoothly, the builders floated it in a bath of "
    "mercury, so that a child could move it with one finger, and drove it with a weight that sank down the middle of the "
    "tower. The weight had to be wound up again every few hours. Keepers took turns through the night, and many of them wrote "
    "that the silence, when the clockwork stopped, woke them faster than any bell.\n\n"
    "That leaves the people. A station had three keepers, because two who disagree have nobody to decide between them, and "
    "because a single man may fall ill. They cleaned the lens every morning, trimmed the wicks, carried the oil up the stairs, "
    "painted whatever could be painted, and wrote down everything: the weather, the ships, the oil used, the hour at which the "
    "lamp was lit and the hour at which it was put out. If the light failed, even for ten minutes, the journal had to say so, "
    "and an inspector would come to ask why. The journals survive in great numbers. They are very dull, and they are the most "
    "honest records of wind and visibility that we have for the whole of the century, because the men who wrote them had "
    "nothing to gain from a better storm.\n\n"
    "When electric lamps arrived, the oil disappeared, and with it half of the work. When small motors arrived, the clockwork "
    "disappeared, and with it the night watch. Finally a switch that responds to daylight replaced the keepers themselves. The "
    "lenses stayed, because nothing better has been found for bending light; many of them have been turning in the same tower "
    "for more than a hundred and fifty years. What has changed is that nobody is there to notice when something goes wrong. A "
    "lamp that burns out is replaced automatically by a second one, and a message is sent to an office on the mainland. But a "
    "pane of glass that has cracked, a door that has blown open, a bird that has built its nest on the bearing: these are "
    "things that no one had thought to measure, and so no message is sent. The lesson is an old one, and it is not only about "
    "lighthouses. A machine reports what it was built to report. Everything else is found by someone who happens to look."
)

_MONTHS = ["January", "March", "April", "May", "June", "July", "August", "September", "October", "November"]  # fmt: skip
_SHIPS = ["Annelise", "Borealis", "Catarina", "Dagny", "Fortuna", "Gudrun", "Halcyon", "Ingrid", "Juno", "Linnea", "Marlin", "Ottilie", "Petrel", "Solveig"]  # fmt: skip
_PORTS = ["Bergen", "Cork", "Danzig", "Faro", "Genoa", "Hull", "Kiel", "Lisbon", "Narvik", "Oporto", "Palermo", "Riga", "Split", "Tunis", "Vigo"]  # fmt: skip
_CARGOES = ["herring", "timber", "salt", "coal", "oranges", "iron", "wool", "tea", "glass", "barley", "cork", "tar", "copper", "wine", "slate"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Note:
    """Something to be found again: what the log says, how the question begins, and the word that ends it."""

    id: str
    text: str
    question: str
    answer: str


EARLY = Note("early", "Note: the secret word of the day is marble.", "Note: the secret word of the day is", "marble")
LATE = Note(
    "late", "Note: the harbour master's dog is called Biscuit.", "Note: the harbour master's dog is called", "Biscuit"
)


def log(n_lines: int, *, seed: int) -> list[str]:
    """Entries of a harbour's log, one a line, no two of them notes."""
    draw = random.Random(seed)
    return [
        f"On {draw.randint(1, 28)} {draw.choice(_MONTHS)} the {draw.choice(_SHIPS)} came in from {draw.choice(_PORTS)} with "
        f"{draw.randint(2, 90)} tons of {draw.choice(_CARGOES)}; the master paid {draw.randint(3, 60)} crowns."
        for _ in range(n_lines)
    ]


def with_notes(lines: list[str]) -> str:
    """The log with the first note after its first line, and the second before its last."""
    return "\n".join([*lines[:1], EARLY.text, *lines[1:-1], LATE.text, *lines[-1:], ""])
