"""Which slots, layers and positions are kept: patterns and numbers as a user writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from apr.errors import UsageError
from apr.trace.record import parts_of

_RANGE = re.compile(r"(-?\d{1,9})(?:-(-?\d{1,9}))?")


@dataclass(frozen=True, slots=True)
class Selection:
    """What to keep; nothing said is everything.

    slots:      patterns with * and ?, of a slot's full name (layers.3.ffn_*) or of its name in the layer (ffn_*); one with
                ! before it leaves out what it matches
    layers:     numbers and ranges with both ends: 0,4-6,-1; negative ones count from the end. What lies outside of the
                layers is left out
    positions:  likewise
    """

    slots: tuple[str, ...] = ()
    layers: str | None = None
    positions: str | None = None

    def choose_positions(self, n_positions: int) -> tuple[int, ...]:
        """Ascending. Raises UsageError for one that there is not."""
        if self.positions is None:
            return tuple(range(n_positions))
        return numbers(self.positions, n_positions, what="position")

    def choose_slots(self, slots: Iterable[str]) -> list[str]:
        """Those of the given slots that are wanted, in their order. Raises UsageError for a pattern that matches none."""
        found = list(slots)
        layers = [layer for layer in (parts_of(slot)[0] for slot in found) if layer is not None]
        chosen = found
        if self.layers is not None:
            wanted = numbers(self.layers, max(layers, default=-1) + 1, what="layer")
            chosen = [slot for slot in chosen if parts_of(slot)[0] in wanted]
        for pattern in self.slots:
            if not pattern.startswith("!") and not any(_matches(slot, pattern) for slot in found):
                names = ", ".join(dict.fromkeys(parts_of(slot)[1] for slot in found))
                raise UsageError(f"no slot is called {pattern!r}; there are {names}, each a name or a pattern")
        patterns = [pattern for pattern in self.slots if not pattern.startswith("!")] or ["*"]
        unwanted = [pattern.removeprefix("!") for pattern in self.slots if pattern.startswith("!")]
        chosen = [
            slot
            for slot in chosen
            if any(_matches(slot, pattern) for pattern in patterns)
            and not any(_matches(slot, pattern) for pattern in unwanted)
        ]
        if not chosen:
            raise UsageError("no slot is left of those that were chosen; choose other slots or layers")
        return chosen


def numbers(text: str, limit: int, *, what: str) -> tuple[int, ...]:
    """The numbers of 0,4-6,-1, ascending, each once. Raises UsageError if one is not within range(limit)."""
    found: set[int] = set()
    for part in text.split(","):
        written = _RANGE.fullmatch(part.strip())
        if written is None:
            raise UsageError(f"{what}s {text!r}: found {part.strip()!r}, expected numbers and ranges such as 0,4-6,-1")
        first = _counted(int(written[1]), limit, what)
        last = first if written[2] is None else _counted(int(written[2]), limit, what)
        if last < first:
            raise UsageError(f"{what}s {text!r}: {part.strip()!r} ends before it starts")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def _counted(number: int, limit: int, what: str) -> int:
    counted = number + limit if number < 0 else number
    if not 0 <= counted < limit:
        raise UsageError(f"there is no {what} {number}: there are {limit}, counted from 0")
    return counted


def _matches(slot: str, pattern: str) -> bool:
    return fnmatchcase(slot, pattern) or fnmatchcase(parts_of(slot)[1], pattern)
