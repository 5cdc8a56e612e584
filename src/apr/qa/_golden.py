"""The golden set: prompts whose answer is beyond doubt, and an oracle that is exact about it.

Three grades: what every working model does, the smallest too (sequences, copying, the plainest facts); what most do; what
larger ones do, which is shown and asked of nobody. Graded on SmolLM2-135M and Qwen2.5-Coder-0.5B as they were published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Grade = Literal[1, 2, 3]

_NUMBER_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
_NUMBER = re.compile(
    r"(?<![\w.,])-?\d+(?:[.,]\d+)*(?![\w]|[.,]\d)|\b(?:" + "|".join(_NUMBER_WORDS) + r")\b", re.IGNORECASE
)
_NEGATED = re.compile(r"(?:\bnot|n't|\bnever|\bno)\s+(?:\w+\s+)?$", re.IGNORECASE)
# a reasoning model thinks aloud first
_THOUGHT = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)
# what a template writes and an answer does not, in any family's spelling, whole or mangled
_MARKUP = re.compile(r"<\|\w+\|?>?|\[/?INST\]|</?s>|<<?/?SYS>?>|<(?:start|end)_of_turn>")
_ROLE = re.compile(r"\s*(?:assistant|user|system|model)\s*\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Golden:
    """One prompt.

    regime:   "raw": the answer is how the text goes on, at once; "chat": it is somewhere in the answer, before any rival
    answers:  accepted, each as a whole word or number, in any case
    rivals:   wrong answers: one of these before the answer is no pass; for a number, every other number is a rival
    """

    id: str
    regime: Literal["raw", "chat"]
    grade: Grade
    prompt: str
    answers: tuple[str, ...]
    rivals: tuple[str, ...] = ()

    @property
    def n_tokens(self) -> int:
        """How many tokens are asked for."""
        return 6 if self.regime == "raw" else 32


@dataclass(frozen=True, slots=True)
class Answer:
    """Where the answer stands in a text: offsets of its first character and behind its last."""

    start: int
    end: int


def _raw(name: str, grade: Grade, prompt: str, *answers: str) -> Golden:
    return Golden(name, "raw", grade, prompt, answers)


def _chat(name: str, grade: Grade, prompt: str, *answers: str, rivals: tuple[str, ...] = ()) -> Golden:
    return Golden(name, "chat", grade, prompt, answers, rivals)


GOLDEN: tuple[Golden, ...] = (
    _raw("days", 1, "Monday, Tuesday, Wednesday, Thursday,", "Friday"),
    _raw("letters", 1, "A, B, C, D, E, F, G,", "H"),
    _raw("count", 1, "1, 2, 3, 4, 5, 6, 7,", "8"),
    _raw("tens", 1, "10, 20, 30, 40, 50,", "60"),
    _raw("plural", 1, "one cat, two cats; one dog, two", "dogs"),
    _raw("west", 1, "The sun rises in the east and sets in the", "west"),
    _raw("france", 1, "The capital of France is", "Paris"),
    _raw("key", 1, '{"name": "Alice", "age": 30}\n{"name": "Bob", "age": 25}\n{"name": "Carol", "', "age"),
    _raw("boils", 2, "Water freezes at 0 degrees Celsius and boils at", "100"),
    _raw("capital", 2, "France: Paris\nGermany: Berlin\nItaly:", "Rome"),
    _raw("opposite", 2, "hot: cold\nup: down\nbig:", "small"),
    _raw("months", 2, "January, February, March, April, May,", "June", "and June"),
    _raw("week", 2, "There are 365 days in a year and 7 days in a", "week"),
    _raw("twinkle", 2, "Twinkle, twinkle, little star,\nHow I wonder what you", "are"),
    _raw("password", 2, "The password is xylophone. Repeat: the password is", "xylophone"),
    _raw("add", 2, "def add(a, b):\n    return a", "+ b"),
    _raw("sum", 3, "2 + 2 = 4\n3 + 1 = 4\n1 + 2 = 3\n2 + 3 =", "5"),
    _raw("room", 3, "The room number is 4721. I repeat, the room number is", "4721"),
    _raw("house", 3, "cat = chat, dog = chien, house =", "maison"),
    _raw("fruit", 3, "apple banana cherry date apple banana cherry", "date"),
    _chat("two and two", 1, "What is 2+2?", "4", "four"),
    _chat("japan", 1, "What is the capital of Japan? Answer in one word.", "Tokyo", rivals=("Kyoto", "Osaka")),
    _chat("week", 1, "How many days are in a week?", "7", "seven"),
    _chat("hot", 1, "What is the opposite of hot?", "cold", rivals=("warm", "cool")),
    _chat("count", 1, "Count from 1 to 5.", "1, 2, 3, 4, 5", "1. 1\n2. 2\n3. 3\n4. 4\n5. 5", "1 2 3 4 5", "1\n2\n3\n4\n5"),
    _chat("repeat", 1, "Repeat this word: banana", "banana"),
    _chat("boils", 2, "At what temperature in Celsius does water boil?", "100", "100.00"),
    _chat("sky", 2, "What color is the sky on a clear day?", "blue", rivals=("green", "red", "gray", "black")),
    _chat("function", 2, "Write a Python function that adds two numbers.", "def"),
    _chat("name", 2, "My name is Annelise. What is my name?", "Annelise"),
    _chat("legs", 3, "How many legs does a spider have?", "8", "eight"),
    _chat("grass", 3, "Name the color of grass.", "green", rivals=("blue", "red", "yellow")),
)  # fmt: skip


def answer(golden: Golden, text: str) -> Answer | None:
    """Where a generated text gives the right answer; None if it gives none, another one first, or denies it."""
    thought = _THOUGHT.match(text.lstrip())
    begin = len(text) - len(text.lstrip()) + thought.end() if thought else 0
    said = text[begin:]
    found = _next(golden, said) if golden.regime == "raw" else _within(golden, said)
    return Answer(begin + found.start, begin + found.end) if found else None


def leak(text: str, prompt: str) -> str | None:
    """What of a template stands in an answer: markup that the question has not, or the header of a turn."""
    header = _ROLE.match(text)
    if header:
        return header.group().strip()
    return next((match.group() for match in _MARKUP.finditer(text) if match.group() not in prompt), None)


def _next(golden: Golden, text: str) -> Answer | None:
    """The text goes on with an answer, white space and quotes apart."""
    for accepted in golden.answers:
        match = re.match(r"[\s\"'*]*(" + _exact(accepted) + ")", text, re.IGNORECASE)
        if match:
            return Answer(*match.span(1))
    return None


def _within(golden: Golden, text: str) -> Answer | None:
    if any(accepted.isdecimal() for accepted in golden.answers):
        return _number(golden, text)
    accepted = [(match.span(), True) for a in golden.answers for match in re.finditer(_exact(a), text, re.IGNORECASE)]
    rivals = [(match.span(), False) for r in golden.rivals for match in re.finditer(_exact(r), text, re.IGNORECASE)]
    for (start, end), is_right in sorted([*accepted, *rivals]):
        if not _NEGATED.search(text[:start]):
            return Answer(start, end) if is_right else None
    return None


def _number(golden: Golden, text: str) -> Answer | None:
    """The first number that the text claims, those that it only repeats from the question left out, is the answer."""
    asked = [_value(match.group()) for match in _NUMBER.finditer(golden.prompt)]
    right = {_value(a) for a in golden.answers}
    for match in _NUMBER.finditer(_unmarked(text)):
        value = _value(match.group())
        if asked and value == asked[0]:
            asked = asked[1:]
        elif value not in right or _NEGATED.search(text[: match.start()]):
            return None
        else:
            return Answer(*match.span())
    return None


def _unmarked(text: str) -> str:
    """Signs that separate numbers as spaces do, so that the 2 of "2+2" is a number; the offsets stay."""
    return re.sub(r"(?<=\d)[+=*×](?=\d)|(?<=\d)[+=*×](?=\s)", " ", text)


def _value(number: str) -> float:
    lower = number.lower()
    if lower in _NUMBER_WORDS:
        return float(_NUMBER_WORDS.index(lower))
    try:
        return float(lower.replace(",", ""))
    except ValueError:
        return float("nan")  # 1.2.3


def _exact(accepted: str) -> str:
    """A pattern of the answer as a whole word or number: "14" is not "4", and neither is "4.5"."""
    before = r"(?<![\w.,])" if accepted[0].isdigit() else r"(?<!\w)" if accepted[0].isalpha() else ""
    after = r"(?!\w|[.,]\d)" if accepted[-1].isdigit() else r"(?!\w)" if accepted[-1].isalnum() else ""
    return before + re.escape(accepted) + after


def chosen(goldens: tuple[Golden, ...], *, has_template: bool, grades: Mapping[Grade, bool]) -> Iterator[Golden]:
    """Those of some grades; without a template, the raw ones only."""
    return (g for g in goldens if grades[g.grade] and (has_template or g.regime == "raw"))
