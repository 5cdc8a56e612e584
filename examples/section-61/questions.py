"""What section 61 asked, as it was asked and as it was meant; and more prompts of each kind, to count with."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Way = Literal["auto", "raw", "rendered"]


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt.

    called:  what section 61 calls it
    way:     "auto": as `apr run --prompt` takes it; "raw": continued as it is; "rendered": put through the template
             first, and the rendered text handed over as `apr run --prompt` takes it
    wrong:   what is wrong with an answer, in words; None if nothing is
    """

    id: str
    called: str
    text: str
    way: Way
    wrong: Callable[[str], str | None]


def no_four(answer: str) -> str | None:
    """Wrong unless the number four is in it; 14 and 4.5 are not the number four."""
    if re.search(r"(?<![\d.])4(?!\.?\d)", answer) or re.search(r"\bfour\b", answer, re.IGNORECASE):
        return None
    return "the number 4 is not in it"


def no_fib(answer: str) -> str | None:
    """Wrong unless it is, or holds in a fence, or goes on to, a function `fib` that returns something."""
    fenced = re.findall(r"```(?:\w*\n)?(.*?)(?:```|\Z)", answer, re.DOTALL)
    if any(_defines_fib(code) for code in [*fenced, answer, "def fib(n):" + answer]):
        return None
    return "no function fib that returns something"


def _defines_fib(code: str) -> bool:
    """Of the longest run of whole lines that is Python: the text may be cut off in the middle of a line."""
    lines = code.splitlines()
    for n in range(len(lines), 0, -1):
        try:
            tree = ast.parse("\n".join(lines[:n]))
        except SyntaxError:
            continue
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "fib"]
        return any(isinstance(node, ast.Return) and node.value for f in functions for node in ast.walk(f))
    return False


QUESTIONS = (
    Question("direct, as run", "direct, no template", "def fib(n):", "auto", no_fib),
    Question("direct", "(never run)", "def fib(n):", "raw", no_fib),
    Question("chat", "ChatML", "What is 2+2?", "auto", no_four),
    Question("chat, rendered", "ChatML (PRED-61-A)", "What is 2+2?", "rendered", no_four),
    Question("continuation, as run", "no template (PRED-61-B)", "What is 2+2? The answer is ", "auto", no_four),
    Question("continuation", "(never run)", "What is 2+2? The answer is ", "raw", no_four),
)

# kind -> prompts; the first of each is section 61's own. Chat prompts go through the template, the others are raw
KINDS: dict[str, Sequence[str]] = {
    "direct": (
        "def fib(n):",
        "def is_prime(n):",
        "class Stack:\n    def __init__(self):",
        "import csv\n\ndef read_rows(path):",
        "def reverse_words(text):",
        "SELECT name, count(*)",
    ),
    "chat": (
        "What is 2+2?",
        "Write a function that adds two numbers.",
        "What is the capital of France?",
        "Name three colours.",
        "How do I open a file in Python?",
        "What is a prime number?",
    ),
    "continuation": (
        "What is 2+2? The answer is ",
        "What is the capital of France? The answer is",
        "Which number comes after 9? The answer is ",
        "How many legs has a spider? The answer is ",
        "What is 3*5? The answer is ",
        "Monday, Tuesday, Wednesday,",
    ),
}
