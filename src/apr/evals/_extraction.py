"""From what a model wrote to a program that can be tested.

A chat answer holds its code in a fenced block, and repeats the function but seldom the imports above it: the prompt's own
lines before the function are kept, else every problem that needs them dies with a NameError.
"""

from __future__ import annotations

import re
import textwrap

# the end may be missing: an answer cut at its length limit
_FENCE = re.compile(r"^([ \t]*)(```+|~~~+)[ \t]*([^\n`]*)\n(.*?)(?:^[ \t]*\2[ \t]*$|\Z)", re.M | re.S)
_PYTHON = ("", "python", "python3", "py", "python 3")


def continued(prompt: str, completion: str) -> str:
    """The program of a raw continuation."""
    return prompt + completion


def answered(prompt: str, answer: str, entry_point: str) -> str:
    """The program of a chat answer: the prompt's lines before the function, and the answer's code."""
    return preamble(prompt, entry_point) + "\n" + code_of(answer, entry_point) + "\n"


def code_of(answer: str, entry_point: str) -> str:
    """The code in an answer: the block that defines the function, else the first Python block, else all of it."""
    blocks = [(label.strip().lower(), textwrap.dedent(code)) for _, _, label, code in _FENCE.findall(answer)]
    defining = [code for _, code in blocks if defines(code, entry_point)]
    python = [code for label, code in blocks if label in _PYTHON]
    return (defining or python or [answer])[0]


def preamble(prompt: str, entry_point: str) -> str:
    """A prompt's lines before the function: imports, constants, other functions. Empty if it does not begin one."""
    found = _definition(entry_point).search(prompt)
    return prompt[: found.start()] if found else ""


def defines(code: str, entry_point: str) -> bool:
    """Whether code has a function of that name at its outermost level."""
    return _definition(entry_point).search(code) is not None


def _definition(name: str) -> re.Pattern[str]:
    return re.compile(rf"^(?:async[ \t]+)?def[ \t]+{re.escape(name)}[ \t]*\(", re.M)
