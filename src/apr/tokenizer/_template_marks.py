"""Follow control tokens of message content through a template, by marks around them in private-use characters.

A template is a program: where the user's words end up in its text cannot be known from outside. So each control token
in the input, and each piece of one at the end of a string (two strings may be joined by the template), is put between
two characters that occur nowhere else; after rendering the marks are taken out, and what lay between them is the
user's. Strings that hold no such thing are not touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Span = tuple[int, int]

_PRIVATE_USE = range(0xF0000, 0xF0200, 2)  # plane 15; transformers takes the first two of it


@dataclass(frozen=True, slots=True)
class Place:
    """One marked stretch of the input.

    text:   what is marked
    whole:  it is a control token; else a piece that could become one when strings are joined
    role:   of the message that holds it; "" outside messages
    """

    text: str
    whole: bool
    role: str


class ControlTokens:
    """The texts that must not act as control tokens when they come from content."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.texts = frozenset(token for token in tokens if token)
        longest_first = sorted(self.texts, key=lambda text: (-len(text), text))
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._starts = {text[:n] for text in self.texts for n in range(1, len(text))}
        self._ends = {text[n:] for text in self.texts for n in range(1, len(text))}
        self._longest = max(map(len, self.texts), default=0)

    def find(self, text: str) -> list[Span]:
        """Where control tokens stand in `text`: leftmost first, longest first, not overlapping."""
        return [match.span() for match in self.pattern.finditer(text)]

    def spans(self, text: str) -> list[tuple[int, int, bool]]:
        """(start, end, whole) of what has to be marked in one string of the input, in order."""
        found = [(start, end, True) for start, end in self.find(text)]
        # templates trim: blanks at the ends do not keep two strings apart
        first, last = len(text) - len(text.lstrip()), len(text.rstrip())
        reach = min(self._longest - 1, last - first)
        head = next((n for n in range(reach, 0, -1) if text[first : first + n] in self._ends), 0)
        tail = next((n for n in range(reach, 0, -1) if text[last - n : last] in self._starts), 0)
        if head and all(start >= first + head for start, _, _ in found):
            found.insert(0, (first, first + head, False))
        if tail and all(end <= last - tail for _, end, _ in found):
            found.append((last - tail, last, False))
        return found


class Marks:
    """A pair of characters that occur neither in the template nor in the input."""

    def __init__(self, *haystacks: str) -> None:
        for code in _PRIVATE_USE:
            pair = chr(code), chr(code + 1)
            escaped = tuple(json.dumps(mark)[1:-1] for mark in pair)
            if not any(form in haystack for form in pair + escaped for haystack in haystacks):
                break
        else:
            raise ValueError("every pair of marks occurs in the input")
        self.start, self.end = pair
        # a template may write JSON with non-ASCII characters escaped
        self._pattern = re.compile("|".join(map(re.escape, pair + escaped)))
        self._starts = {pair[0], escaped[0]}

    def put(self, value: Any, tokens: ControlTokens, *, wanted: Callable[[int], bool]) -> tuple[Any, list[Place]]:
        """A copy of JSON data with the places for which `wanted(index)` holds marked, and all places in order."""
        places: list[Place] = []

        def text(string: str, role: str) -> str:
            pieces, last = [], 0
            for start, end, whole in tokens.spans(string):
                left, right = (self.start, self.end) if wanted(len(places)) else ("", "")
                places.append(Place(string[start:end], whole, role))
                pieces += [string[last:start], left, string[start:end], right]
                last = end
            return "".join([*pieces, string[last:]])

        def walk(node: Any, role: str) -> Any:
            if isinstance(node, str):
                return text(node, role)
            if isinstance(node, dict):
                inner = node["role"] if not role and isinstance(node.get("role"), str) else role
                return {text(key, inner): walk(item, inner) for key, item in node.items()}
            if isinstance(node, list):
                return [walk(item, role) for item in node]
            return node

        return walk(value, ""), places

    def take_out(self, text: str) -> tuple[str, list[Span]]:
        """The text without marks, and the stretches that lay between them.

        A mark that lost its partner (the template cut the string there) covers the one character at its side.
        """
        pieces: list[str] = []
        spans: list[Span] = []
        last = position = 0
        opened: int | None = None
        for match in self._pattern.finditer(text):
            pieces.append(text[last : match.start()])
            position += match.start() - last
            last = match.end()
            if match.group() in self._starts:
                if opened is not None:
                    spans.append((opened, opened + 1))
                opened = position
            else:
                spans.append((opened, position) if opened is not None else (position - 1, position))
                opened = None
        if opened is not None:
            spans.append((opened, opened + 1))
        return "".join([*pieces, text[last:]]), spans


def overlapping(found: Sequence[Span], theirs: Sequence[Span]) -> tuple[Span, ...]:
    """The members of `found` that share a character with one of `theirs`; both in order of their start."""
    kept, j = [], 0
    for start, end in found:
        while j < len(theirs) and theirs[j][1] <= start:
            j += 1
        if j < len(theirs) and theirs[j][0] < end:
            kept.append((start, end))
    return tuple(kept)
